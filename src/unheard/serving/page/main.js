// The tabs, and what the model can do. A view is loaded when it is opened.

import { get } from "./api.js";
import { byId } from "./elements.js";
import { attempt } from "./message.js";
import { stop } from "./player.js";

const VIEWS = ["reconstruct", "map", "search", "label", "spans"];
const opened = new Map(); // promises of what the views offer
let status = null;

async function open(name, focus = false) {
  for (const each of VIEWS) {
    const tab = byId(`tab-${each}`), chosen = each === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    byId(`view-${each}`).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
  stop();
  history.replaceState(null, "", `#${name}`);
  if (!opened.has(name)) {
    opened.set(name, attempt(async () => (await import(`./${name}.js`)).start(byId(`view-${name}`), status)));
    return opened.get(name);
  }
  const view = await opened.get(name);
  view?.shown?.();
  return view;
}

document.addEventListener("go", async ({ detail }) => {
  const view = await open(detail.view, true);
  if (detail.sound) view?.take?.(detail.sound);
});

function bindTabs() {
  VIEWS.forEach((name, index) => {
    byId(`tab-${name}`).addEventListener("click", () => open(name));
    byId(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) open(VIEWS[(index + step + VIEWS.length) % VIEWS.length], true);
    });
  });
}

attempt(async () => {
  status = await get("/api/status");
  const folder = status.folder ? `, ${status.files} files of ${status.folder}` : "";
  byId("model").textContent = `${status.model}, ${status.sample_rate / 1000} kHz, ${status.device}${folder}`;
  bindTabs();
  const wanted = location.hash.slice(1);
  open(VIEWS.includes(wanted) ? wanted : "reconstruct");
});
