// Scatter plot of the report of a probe: clips as points, a click plays one. Reads the JSON in #map-data; needs no network.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("map-data").textContent);
  const svg = document.getElementById("map"), text = document.getElementById("map-text"), legend = document.getElementById("map-legend");
  const draw = (name, attributes, parent) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return parent.appendChild(made);
  };
  const colour = (number) => `hsl(${(number * 137.5) % 360} 65% ${[45, 60, 35][number % 3]}%)`;
  const player = new Audio();
  let lit = null, playing = null;

  const describe = (point) => {
    const predicted = point.predicted === "" ? "not tested" : point.right ? "correct" : `predicted as ${point.predicted || "none of the classes"}`;
    const place = point.sound ? "" : point.file ? " (not stored in this page: a click opens the file)" : " (no sound)";
    return `${point.name}: ${point.label}, ${predicted}${place}`;
  };
  const play = (point, dot) => {
    text.textContent = describe(point);
    if (playing) playing.classList.remove("playing");
    (playing = dot).classList.add("playing");
    if (point.sound) { player.src = point.sound; player.play(); }
    else if (point.file) window.open(point.file);
  };
  const dots = data.points.map((point) => {
    const dot = draw("circle", { r: 4.5, fill: colour(data.classes.indexOf(point.label)), tabindex: 0, role: "button", "aria-label": describe(point) }, svg);
    if (point.predicted !== "" && !point.right) dot.classList.add("wrong");
    if (!point.sound) dot.classList.add("mute");
    dot.addEventListener("click", () => play(point, dot));
    dot.addEventListener("keydown", (event) => { if (event.key === "Enter") play(point, dot); });
    dot.addEventListener("mouseenter", () => { text.textContent = describe(point); });
    return dot;
  });
  const lay = (plane) => {
    const span = [0, 1].map((axis) => {
      const values = data.points.map((point) => point[plane][axis]);
      return [Math.min(...values), Math.max(...values)];
    });
    const place = (value, axis, size) => 12 + (size - 24) * (value - span[axis][0]) / (span[axis][1] - span[axis][0] || 1);
    dots.forEach((dot, index) => {
      dot.setAttribute("cx", place(data.points[index][plane][0], 0, 800));
      dot.setAttribute("cy", 520 - place(data.points[index][plane][1], 1, 520));
    });
    for (const button of document.querySelectorAll("[data-plane]")) button.setAttribute("aria-pressed", button.dataset.plane === plane);
  };
  const light = () => dots.forEach((dot, index) => {
    const point = data.points[index], wrong = document.getElementById("map-wrong").checked;
    dot.classList.toggle("dim", (lit !== null && point.label !== lit) || (wrong && (point.predicted === "" || point.right)));
  });
  data.classes.forEach((name, number) => {
    const button = legend.appendChild(document.createElement("button"));
    button.innerHTML = "<i></i>";
    button.firstChild.style.background = colour(number);
    button.append(name);
    button.addEventListener("click", () => {
      lit = lit === name ? null : name;
      for (const other of legend.children) other.setAttribute("aria-pressed", other === button && lit !== null);
      light();
    });
  });
  document.getElementById("map-wrong").addEventListener("change", light);
  for (const button of document.querySelectorAll("[data-plane]")) button.addEventListener("click", () => lay(button.dataset.plane));
  lay("tsne");
})();
