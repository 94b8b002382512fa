"use strict";
// Sortable tables, light and dark mode, printing. The image browser is in browser.js.
// Plain functions: no library, no storage, no network.

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Create an element with properties and children (text is never parsed as HTML). */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Tables

/** Sort key of a row: a number, a string, or null. */
function key(row, column) {
  const text = row.cells[column].dataset.key;
  if (text === undefined || text === "NaN") return null;
  return text.startsWith('"') ? JSON.parse(text) : Number(text);
}

const byName = new Intl.Collator("en", { numeric: true }).compare;

/** Compare in ascending order, numbers before strings; the caller handles null. */
function compare(a, b) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return typeof a === "number" ? a - b : byName(a, b);
}

function sortTable(heading) {
  const table = heading.closest("table");
  const headings = all("thead th", table);
  const column = headings.indexOf(heading);
  // The first click sorts numbers descending and names ascending.
  const first = heading.classList.contains("number") ? "descending" : "ascending";
  const second = first === "descending" ? "ascending" : "descending";
  const direction = heading.ariaSort === first ? second : first;
  for (const body of table.tBodies) {
    const rows = all("tr:not(.group)", body).map((row) => [key(row, column), row]);
    const known = rows.filter(([value]) => value !== null);
    known.sort(([a], [b]) => (direction === "ascending" ? compare(a, b) : compare(b, a)));
    const unknown = rows.filter(([value]) => value === null);
    body.append(...[...known, ...unknown].map(([, row]) => row));
  }
  for (const other of headings) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
}

for (const heading of all("thead th")) {
  const button = make("button", { type: "button" }, ...heading.childNodes);
  button.addEventListener("click", () => sortTable(heading));
  heading.append(button);
}

// Copy a table into a text: Markdown, or LaTeX with booktabs

const flat = (cell) => cell.textContent.replace(/\s+/g, " ").trim();

function markdownOf(table) {
  const line = (texts) => `| ${texts.map((text) => text.replace(/([\\|*_`<>])/g, "\\$1")).join(" | ")} |`;
  const headings = all("thead th", table);
  const rules = headings.map((heading) => (heading.classList.contains("number") ? "---:" : "---"));
  const rows = all("tbody tr, tfoot tr", table).map((row) => {
    const texts = [...row.cells].map(flat);
    while (texts.length < headings.length) texts.push(""); // the heading of a group
    return line(texts);
  });
  return [line(headings.map(flat)), `| ${rules.join(" | ")} |`, ...rows].join("\n");
}

const LATEX = {
  "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
  "−": "$-$", "–": "--", "×": "$\\times$", "±": "$\\pm$", "·": "$\\cdot$", "∩": "$\\cap$",
  "∪": "$\\cup$", "|": "\\textbar{}", "<": "\\textless{}", ">": "\\textgreater{}",
};
const escaped = (text) =>
  text.replace(/[\\~^−–×±·∩∪|<>]|[&%$#_{}]/g, (sign) => LATEX[sign] ?? `\\${sign}`);

function latexOf(table) {
  const headings = all("thead th", table);
  const sides = headings.map((heading) => (heading.classList.contains("number") ? "r" : "l"));
  const line = (cells) => `${cells.map((cell) => escaped(flat(cell))).join(" & ")} \\\\`;
  const rows = all("tbody tr, tfoot tr", table).map((row) =>
    row.className === "group"
      ? `\\midrule\n\\multicolumn{${headings.length}}{l}{\\textbf{${escaped(flat(row))}}} \\\\`
      : line([...row.cells]),
  );
  return [
    `\\begin{tabular}{${sides.join("")}}`, "\\toprule", line(headings), "\\midrule", ...rows,
    "\\bottomrule", "\\end{tabular}",
  ].join("\n").replace("\\midrule\n\\midrule", "\\midrule");
}

/** Copy a text; without the clipboard's interface, by selecting it. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

for (const box of all(".table")) {
  const buttons = [["Markdown", markdownOf], ["LaTeX", latexOf]].map(([name, write]) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", async () => {
      await copy(write(box.querySelector("table")));
      button.textContent = "copied";
      setTimeout(() => (button.textContent = name), 1500);
    });
    return button;
  });
  box.querySelector(".scroll").before(make("p", { className: "copy" }, "Copy as ", ...buttons));
}

// A figure that is small on a phone grows to its own size, and scrolls

for (const card of all(".card")) {
  card.addEventListener("click", () => card.classList.toggle("full"));
}

// Only boxes that scroll can be focused by keyboard.
const reachable = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const box of all(".scroll")) reachable.observe(box);

// Light and dark

const root = document.documentElement;
const theme = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () =>
  root.style.colorScheme ? root.style.colorScheme === "dark" : systemDark.matches;
const nameTheme = () => {
  theme.textContent = isDark() ? "☀ Light" : "☾ Dark";
  theme.ariaLabel = isDark() ? "Light colours" : "Dark colours";
};
theme.hidden = false;
theme.addEventListener("click", () => {
  root.style.colorScheme = isDark() ? "light" : "dark";
  nameTheme();
});
systemDark.addEventListener("change", nameTheme);
nameTheme();

// Folded sections: open them for printing, and when a link in the contents targets them

let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = all("details:not([open])");
  for (const details of unfolded) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of unfolded) details.open = false;
});
function unfoldTarget() {
  const details = document.getElementById(location.hash.slice(1))?.querySelector("details");
  if (details?.parentElement.id === location.hash.slice(1)) details.open = true;
}
addEventListener("hashchange", unfoldTarget);
unfoldTarget();
