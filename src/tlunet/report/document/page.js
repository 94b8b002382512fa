"use strict";
// Sortable tables, light and dark mode, printing, and the image browser.
// Plain functions: no library, no storage, no network.

const WIDE = 2; // images wider than this times their height are stacked, others side by side
const BROAD = 1.5; // from this ratio on, at most two per row
const SMALL = 200; // pixels: images up to this width are enlarged with crisp pixels
const FINE = 500; // pixels: minimum width at which a mask is painted, so that its edge stays thin
const FILL = 115; // of 255: opacity inside a mask
const RIM = 170; // of 255: opacity of the rim

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
  const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
  const known = rows.filter(([value]) => value !== null);
  known.sort(([a], [b]) => (direction === "ascending" ? compare(a, b) : compare(b, a)));
  const unknown = rows.filter(([value]) => value === null);
  table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
  for (const other of headings) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
}

for (const heading of all("thead th")) {
  const button = make("button", { type: "button" }, ...heading.childNodes);
  button.addEventListener("click", () => sortTable(heading));
  heading.append(button);
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

// Image browser

/**
 * Decode a mask from its runs (1-based, column-major) to row-major order with a zero margin.
 * Each pixel becomes a square of `times` by `times`.
 */
function decode(runs, [height, width], margin = 0, times = 1) {
  const stride = width * times + 2 * margin;
  const mask = new Uint8Array((height * times + 2 * margin) * stride);
  const values = runs.split(" ").filter(Boolean).map(Number);
  for (let i = 0; i < values.length; i += 2) {
    const end = values[i] - 1 + values[i + 1];
    for (let p = values[i] - 1; p < end; p++) {
      const left = Math.floor(p / height) * times + margin;
      for (let row = 0, y = (p % height) * times + margin; row < times; row++, y++) {
        mask.fill(1, y * stride + left, y * stride + left + times);
      }
    }
  }
  return mask;
}

/**
 * Paint masks: transparent inside, opaque edge, mixed colours where classes overlap.
 * A dark rim outside keeps them visible on steel as bright as their colour.
 */
function paint(masks, colours, size) {
  const times = Math.max(1, Math.round(FINE / size[1]));
  const [height, width] = size.map((side) => side * times);
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const data = picture.data;
  const edge = Math.max(1, Math.round(width / 500)); // still visible when a strip is scaled down
  const stride = width + 2 * edge; // with the margin, neighbours need no bounds checks
  const [across, down] = [edge, edge * stride];
  const union = decode("", size, edge, times);
  masks.forEach((runs, m) => {
    if (!runs) return;
    const mask = decode(runs, size, edge, times);
    const rgb = [1, 3, 5].map((at) => parseInt(colours[m].slice(at, at + 2), 16));
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0, p = (y + edge) * stride + edge; x < width; x++, p++, at += 4) {
        if (!mask[p]) continue;
        union[p] = 1;
        const within = mask[p - across] & mask[p + across] & mask[p - down] & mask[p + down];
        if (within && data[at + 3] === 255) continue; // keep the edge of the other class
        const mix = within && data[at + 3] ? 0.5 : 0;
        for (let c = 0; c < 3; c++) data[at + c] = mix * data[at + c] + (1 - mix) * rgb[c];
        data[at + 3] = within ? FILL : 255;
      }
    }
  });
  for (let y = 0, at = 3; y < height; y++) {
    for (let x = 0, p = (y + edge) * stride + edge; x < width; x++, p++, at += 4) {
      if (union[p]) continue;
      if (union[p - across] | union[p + across] | union[p - down] | union[p + down]) data[at] = RIM;
    }
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

const isWide = ([height, width]) => width > WIDE * height;
const isBroad = ([height, width]) => width >= BROAD * height;
const shape = (size) => (isWide(size) ? "pictures wide" : isBroad(size) ? "pictures broad" : "pictures");

const large = document.getElementById("large");
large.addEventListener("click", (event) => {
  if (event.target === large) large.close(); // the backdrop
});

function enlarge(frame, title, [height, width], isMasked) {
  const copy = frame.cloneNode(true);
  const canvas = frame.querySelector("canvas");
  if (canvas) copy.querySelector("canvas").getContext("2d").drawImage(canvas, 0, 0);
  copy.style.setProperty("--ratio", width / height);
  copy.classList.toggle("wide", isWide([height, width]));
  document.getElementById("large-title").textContent = title;
  large.classList.toggle("masked", isMasked);
  large.querySelector(".scroll").replaceChildren(copy);
  large.showModal();
}

const score = (value) => (value === null ? "no defect" : value.toFixed(3));
function signed(value) {
  if (value === null) return "–";
  return (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3);
}

/** Set up one image browser of the page. */
function browse(root) {
  const { pairs, colours, images } = JSON.parse(root.querySelector("script").textContent);
  const live = root.querySelector(".live");
  const pair = root.querySelector(".pair");
  const order = root.querySelector(".order");
  const masks = root.querySelector(".masks");
  const perPage = matchMedia("(min-width: 44rem)").matches ? 10 : 5;
  const pages = Math.max(1, Math.ceil(images.length / perPage));
  let page = 0;

  function difference(image) {
    const [, first, second] = pairs[pair.value];
    const [a, b] = [image.scores[first], image.scores[second]];
    return a === null || b === null ? null : b - a;
  }

  function sorted() {
    const named = [...images].sort((a, b) => byName(a.id, b.id));
    if (order.value === "name") return named;
    const sign = order.value === "gain" ? -1 : 1;
    const known = named.filter((image) => difference(image) !== null);
    known.sort((a, b) => sign * (difference(a) - difference(b)));
    return [...known, ...named.filter((image) => difference(image) === null)];
  }

  function figure(image, name, masksOfImage) {
    const [height, width] = image.size;
    const frame = make("span", { className: "frame" }, make("img", { src: image.jpeg, alt: "" }));
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.classList.toggle("crisp", width <= SMALL);
    if (masksOfImage) frame.append(paint(masksOfImage, colours, image.size));
    const button = make("button", { type: "button", ariaLabel: `Enlarge ${image.id}, ${name}` });
    button.append(frame);
    button.addEventListener("click", () =>
      enlarge(frame, `${image.id}, ${name}`, image.size, masks.checked),
    );
    return make("figure", {}, button, make("figcaption", {}, name));
  }

  function row(image) {
    const [, first, second] = pairs[pair.value];
    const gain = difference(image);
    const tone = gain > 0 ? "good" : gain < 0 ? "bad" : "";
    const fact = (name, value, className = "") =>
      make("div", {}, make("dt", {}, name), make("dd", { className }, value));
    const facts = make(
      "dl",
      {},
      fact(`Dice, ${first}`, score(image.scores[first])),
      fact(`Dice, ${second}`, score(image.scores[second])),
      fact("Difference", signed(gain), tone),
    );
    const pictures = make(
      "div",
      { className: shape(image.size) },
      figure(image, "image", null),
      figure(image, "truth", image.truth),
      figure(image, first, image.predictions[first]),
      figure(image, second, image.predictions[second]),
    );
    return make("li", { className: "sample" }, make("h4", {}, image.id), facts, pictures);
  }

  function draw() {
    const shown = sorted().slice(page * perPage, (page + 1) * perPage);
    root.querySelector(".samples").replaceChildren(...shown.map(row));
    const where = `page ${page + 1} of ${pages}`;
    for (const label of all(".where", root)) label.textContent = where;
    root.querySelector("[role=status]").textContent = where;
    for (const button of all("[data-step]", root)) {
      const next = page + Number(button.dataset.step);
      button.disabled = next < 0 || next >= pages;
    }
  }

  for (const choice of [pair, order]) {
    choice.addEventListener("change", () => {
      page = 0;
      draw();
    });
  }
  masks.addEventListener("change", () => live.classList.toggle("masked", masks.checked));
  for (const button of all("[data-step]", root)) {
    button.addEventListener("click", () => {
      page += Number(button.dataset.step);
      draw();
      if (live.getBoundingClientRect().top < 0) live.scrollIntoView();
    });
  }
  // A browser may restore the state of the checkbox when the page is reloaded.
  live.classList.toggle("masked", masks.checked);
  root.querySelector(".needs").remove();
  live.hidden = false;
  draw();
}

all(".browser").forEach(browse);
