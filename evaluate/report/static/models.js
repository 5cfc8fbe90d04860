"use strict";
// What a figure shows of a model has the class m-<number>: filtered models vanish from figures, a pressed key dims the others.
const sheet = document.head.appendChild(document.createElement("style"));
const state = { gone: [], single: null };
const repaint = () => {
  const rules = state.gone.map((group) => `svg .${group} { display: none; }`);
  if (state.single) rules.push(`svg .m:not(.${state.single}) { opacity: .1; }`);
  sheet.textContent = rules.join("\n");
};
document.addEventListener("filtered", (event) => { state.gone = event.detail; repaint(); });
const keys = [...document.querySelectorAll("[data-single]")];
for (const key of keys) {
  key.addEventListener("click", () => {
    state.single = state.single === key.dataset.single ? null : key.dataset.single;
    for (const other of keys) other.setAttribute("aria-pressed", String(other.dataset.single === state.single));
    repaint();
  });
}
// A link to a run opens what it leads to.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) { target.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", reveal);
reveal();
