// Map: the files of FOLDER in two dimensions; the pointer plays, a lasso selects.

import { get } from "./api.js";
import { make, fill } from "./elements.js";
import { whenReady } from "./folder.js";
import { hitList } from "./hits.js";
import { go } from "./navigation.js";
import { attempt } from "./message.js";
import { audioOf, play } from "./player.js";
import { Scatter } from "./scatter.js";
import { groupColour } from "./colours.js";

const LEGEND = 24;

export async function start(view) {
  const holder = make("div");
  view.append(make("h2", {}, "Map of the folder"), holder);
  await whenReady(holder);
  holder.append(make("p", { role: "status" }, "The map is computed; t-SNE of 2000 files takes some seconds."));
  const plane = make("select"), colour = make("select"), count = make("input", { type: "range", min: "2", max: "20", value: "8" });
  const hover = make("input", { type: "checkbox", checked: true }), countText = make("output", {}, "8");
  const box = make("div", { class: "mapbox" }), legend = make("div", { class: "legend" }), line = make("p", { "aria-live": "polite" }), chosen = make("div");
  fill(plane, [["tsne", "t-SNE: neighbours stay neighbours"], ["pca", "PCA: the two largest directions"]], "tsne");
  fill(colour, [["folder", "folder"], ["label", "label"], ["cluster", "cluster"]], "folder");

  let found = await attempt(() => get("/api/map?clusters=8"));
  if (!found) { holder.replaceChildren(); return {}; }
  holder.replaceChildren(
    make("div", { class: "row" }, make("label", {}, "Projection", plane), make("label", {}, "Colour", colour),
      make("label", {}, "Clusters ", countText, count), make("label", { class: "choice" }, hover, "play under the pointer")),
    box, line, legend, chosen,
  );
  const about = "Click a point to play it. Drag to select an area. With the keyboard: arrow keys go to the nearest point in that direction, Enter plays."
    + (found.points.length < found.total ? ` The map shows ${found.points.length} of ${found.total} files, selected at random.` : "");
  line.textContent = about;

  const scatter = new Scatter(box, {
    onPoint: (point, clicked) => {
      line.textContent = point ? describe(point) : about;
      if (point && (clicked || hover.checked)) attempt(() => play(audioOf(point.id)));
    },
    onSelect: (points) => select(points),
  });

  const describe = (point) => `${point.name}${point.label ? `, label ${point.label}` : ""}, cluster ${point.cluster + 1}`;
  const group = (point) => ({ folder: point.folder || "(top)", label: point.label || "no label", cluster: `cluster ${point.cluster + 1}` })[colour.value];

  function draw() {
    const sizes = new Map();
    found.points.forEach((point) => sizes.set(group(point), (sizes.get(group(point)) || 0) + 1));
    const names = [...sizes.keys()].sort((one, other) => sizes.get(other) - sizes.get(one) || one.localeCompare(other));
    const colours = new Map(names.map((name, at) => [name, groupColour(at)]));
    scatter.show(found.points, found.points.map((point) => point[plane.value]), found.points.map((point) => colours.get(group(point))));
    legend.replaceChildren(...names.slice(0, LEGEND).map((name) => {
      const dot = make("i");
      dot.style.background = colours.get(name);
      return make("span", {}, dot, `${name} (${sizes.get(name)})`);
    }), names.length > LEGEND ? `and ${names.length - LEGEND} more` : "");
  }

  function select(points) {
    if (!points.length) { chosen.replaceChildren(); return; }
    chosen.replaceChildren(make("h3", {}, `${points.length} files selected`), hitList(points.slice(0, 100), [
      ["Find similar", "Search for files similar to", (file) => go("search", file)],
      ["Look inside", "Open in Reconstruction:", (file) => go("reconstruct", file)],
    ]));
  }

  const reload = () => attempt(async () => {
    found = await get(`/api/map?clusters=${count.value}`);
    draw();
  });
  plane.addEventListener("change", draw);
  colour.addEventListener("change", draw);
  count.addEventListener("input", () => { countText.textContent = count.value; });
  count.addEventListener("change", () => { colour.value = "cluster"; reload(); });
  draw();
  return { shown: reload };
}
