// Views open one another by an event, so that they do not import the page that loads them.

export const go = (view, sound) => document.dispatchEvent(new CustomEvent("go", { detail: { view, sound } }));
