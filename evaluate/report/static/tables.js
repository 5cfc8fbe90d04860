"use strict";
// Tables that sort by a button in a column's head, and one filter for all rows and figures of the page.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const buttons = [...table.querySelectorAll("thead button")];
  const read = (row, column, type) => {
    const cell = row.cells[column];
    if (type === "text") return (cell.dataset.value ?? cell.textContent).trim().toLowerCase();
    const number = parseFloat((cell.dataset.value ?? cell.textContent).replace("−", "-"));
    return Number.isNaN(number) ? null : number;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), column = head.cellIndex, type = button.dataset.type;
      const now = head.getAttribute("aria-sort"), first = button.dataset.better ?? "ascending";
      const order = now === first ? (first === "ascending" ? "descending" : "ascending") : first;
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = [...body.rows].map((row) => [read(row, column, type), row]);
      // What is not known comes last, whichever way.
      keyed.sort(([a], [b]) => a === b ? 0 : a === null ? 1 : b === null ? -1 : sign * (type === "text" ? a.localeCompare(b, undefined, { numeric: true }) : a - b));
      body.append(...keyed.map(([, row]) => row));
    });
  }
}

const filter = document.querySelector(".filter");
if (filter) {
  filter.hidden = false;
  const text = filter.querySelector("[type=search]"), boxes = [...filter.querySelectorAll("[type=checkbox]")];
  const rows = [...document.querySelectorAll("tr[data-name]")];
  const names = new Set(rows.map((row) => row.dataset.name));
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kinds = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const fits = (row) => kinds.has(row.dataset.kind) && (!("twin" in row.dataset) || kinds.has("twin")) && words.every((word) => row.dataset.name.toLowerCase().includes(word));
    const shown = new Set(), groups = new Set(), all = new Set();
    for (const row of rows) {
      const fit = fits(row);
      row.hidden = !fit;
      all.add(row.dataset.model);
      if (fit) { shown.add(row.dataset.name); groups.add(row.dataset.model); }
    }
    filter.querySelector("output").textContent = `${shown.size} of ${names.size} models`;
    document.dispatchEvent(new CustomEvent("filtered", { detail: [...all].filter((group) => !groups.has(group)) }));
  };
  filter.addEventListener("input", apply);
  filter.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("DOMContentLoaded", apply);
}
