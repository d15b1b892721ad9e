"use strict";
// Sortable tables: every head becomes a button. It sorts by its column, then the other way round, then as reported.
// Numbers sort by the first number of a cell, texts by the reader's alphabet; cells without a value stand last.
const ORDERS = ["ascending", "descending", null];
const alphabet = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const NUMBER = /[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?/;

function valueOf(row, column, isNumber) {
  const text = row.cells[column].textContent.trim().replaceAll("\u2212", "-");
  if (!isNumber) return text === "\u2013" ? "" : text;
  const found = text.match(NUMBER);
  return found === null ? null : Number(found[0].replaceAll(",", ""));
}

function compare(a, b) {
  return typeof a === "number" ? a - b : alphabet.compare(a, b);
}

function sorted(rows, column, isNumber, order) {
  if (order === null) return rows;
  const sign = order === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [valueOf(row, column, isNumber), row]);
  const isEmpty = (value) => value === null || value === "";
  keyed.sort(([a], [b]) => isEmpty(a) || isEmpty(b) ? isEmpty(a) - isEmpty(b) : sign * compare(a, b));
  return keyed.map(([, row]) => row);
}

function makeSortable(table) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length < 2) return;
  heads.forEach((head, column) => {
    if (head.textContent.trim() === "") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = ORDERS[(ORDERS.indexOf(head.getAttribute("aria-sort")) + 1) % ORDERS.length];
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      if (order !== null) head.setAttribute("aria-sort", order);
      body.append(...sorted(rows, column, head.classList.contains("number"), order));
    });
  });
}

document.querySelectorAll("table").forEach(makeSortable);

// On paper everything is open.
const opened = [];
addEventListener("beforeprint", () => {
  opened.push(...document.querySelectorAll("details:not([open])"));
  opened.forEach((each) => { each.open = true; });
});
addEventListener("afterprint", () => {
  opened.splice(0).forEach((each) => { each.open = false; });
});
