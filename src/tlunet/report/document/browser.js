
// Image browser: masks are painted as in tlunet/data/drawing.py, pixel by pixel.

const WIDE = 2; // images wider than this times their height are stacked, others side by side
const BROAD = 1.5; // from this ratio on, at most two per row
const SMALL = 200; // pixels: images up to this width are enlarged with crisp pixels
const FINE = 500; // pixels: width from which an edge of one pixel is thin
const FILL = 115; // of 255: opacity inside a mask
const RIM = 170; // of 255: opacity of the rim

const rounded = (number) => Math.max(1, Math.floor(number + 0.5));

/** Decode a mask from its runs (1-based, column-major) to row-major order. */
function decode(runs, [height, width]) {
  const mask = new Uint8Array(height * width);
  const values = runs.split(" ").filter(Boolean).map(Number);
  for (let i = 0; i < values.length; i += 2) {
    const end = values[i] - 1 + values[i + 1];
    for (let p = values[i] - 1; p < end; p++) {
      mask[(p % height) * width + Math.floor(p / height)] = 1;
    }
  }
  return mask;
}

/** Resize a mask by nearest neighbour and add a margin of zeros: neighbours need no checks. */
function resize(mask, [height, width], [newHeight, newWidth], margin) {
  const stride = newWidth + 2 * margin;
  const out = new Uint8Array((newHeight + 2 * margin) * stride);
  for (let y = 0; y < newHeight; y++) {
    const row = Math.floor(((y + 0.5) * height) / newHeight) * width;
    for (let x = 0, p = (y + margin) * stride + margin; x < newWidth; x++, p++) {
      out[p] = mask[row + Math.floor(((x + 0.5) * width) / newWidth)];
    }
  }
  return out;
}

/** Size at which masks are painted: that of the image or of the masks, enlarged if small. */
function paintedSize({ size, shown }) {
  const larger = size.map((side, k) => Math.max(side, shown[k]));
  const times = rounded(FINE / larger[1]);
  return larger.map((side) => side * times);
}

/**
 * Paint masks (row-major, of the given size): transparent inside, opaque edge, mixed colours where
 * they overlap. A dark rim outside keeps them visible on steel as bright as their colour.
 */
function paint(masks, colours, size, [height, width]) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const data = picture.data;
  const edge = rounded(width / FINE); // still visible when a strip is scaled down
  const stride = width + 2 * edge;
  const [across, down] = [edge, edge * stride];
  const union = new Uint8Array((height + 2 * edge) * stride);
  masks.forEach((given, m) => {
    if (!given.includes(1)) return;
    const mask = resize(given, size, [height, width], edge);
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

/** Found (as its class), missed (or found as another class), false alarm: three masks. */
function outcomes(truth, predicted) {
  const [found, missed, wrong] = [0, 1, 2].map(() => new Uint8Array(truth[0].length));
  for (let p = 0; p < found.length; p++) {
    const isDefect = truth.some((mask) => mask[p]);
    if (truth.some((mask, m) => mask[p] && predicted[m][p])) found[p] = 1;
    else if (isDefect) missed[p] = 1;
    else if (predicted.some((mask) => mask[p])) wrong[p] = 1;
  }
  return [found, missed, wrong];
}

const isWide = ([height, width]) => width > WIDE * height;
const isBroad = ([height, width]) => width >= BROAD * height;
const shape = (size) => (isWide(size) ? "pictures wide" : isBroad(size) ? "pictures broad" : "pictures");
const score = (value) => (value === null ? "no defect" : value.toFixed(3));
function signed(value) {
  if (value === null) return "–";
  return (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(3);
}

/** Whether a network misses a class of an image completely, or sees one that is not in it. */
function isWrong(image, cell, only, m) {
  const classes = m === "" ? image.truth.map((_, k) => k) : [Number(m)];
  const [there, not] = only === "missed" ? [image.truth, image.predictions[cell]] : [image.predictions[cell], image.truth];
  return classes.some((k) => there[k] && !not[k]);
}

const large = document.getElementById("large");
let turnLarge = null; // shows the next (1) or previous (-1) image
large.addEventListener("click", (event) => {
  if (event.target === large) large.close(); // the backdrop
});
large.addEventListener("close", () => {
  turnLarge = null;
});

/** Set up one image browser of the page; the address holds its state. */
function browse(root, number) {
  const { pairs, colours, outcomeColours, images } = JSON.parse(root.querySelector("script").textContent);
  const live = root.querySelector(".live");
  const [pair, order, ofClass, only, view] = ["pair", "order", "class", "only", "view"].map((name) =>
    root.querySelector(`select.${name}`),
  );
  const choices = { pair, order, class: ofClass, only, view };
  const perPage = matchMedia("(min-width: 44rem)").matches ? 10 : 5;
  let page = 0;
  let open = null; // the image in the dialog

  function difference(image) {
    const [, first, second] = pairs[pair.value];
    const [a, b] = [image.scores[first], image.scores[second]];
    return a === null || b === null ? null : b - a;
  }

  function isShown(image) {
    const [kind, side] = only.value.split("-"); // for example missed-1: by the first network
    if (kind) return isWrong(image, pairs[pair.value][side], kind, ofClass.value);
    if (ofClass.value === "none") return !image.truth.some(Boolean);
    return ofClass.value === "" || Boolean(image.truth[ofClass.value]);
  }

  function sorted() {
    const named = images.filter(isShown).sort((a, b) => byName(a.id, b.id));
    if (order.value === "name") return named;
    const sign = order.value === "gain" ? -1 : 1;
    const known = named.filter((image) => difference(image) !== null);
    known.sort((a, b) => sign * (difference(a) - difference(b)));
    return [...known, ...named.filter((image) => difference(image) === null)];
  }

  const decoded = (image, runs) => runs.map((one) => decode(one, image.size));
  const classCanvas = (image, runs) =>
    paint(decoded(image, runs), colours, image.size, paintedSize(image));
  const outcomeCanvas = (image, runs) =>
    paint(outcomes(decoded(image, image.truth), decoded(image, runs)), outcomeColours, image.size, paintedSize(image));

  function framed(image, canvas) {
    const [height, width] = image.shown;
    const frame = make("span", { className: "frame" }, make("img", { src: image.jpeg, alt: "" }));
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.setProperty("--ratio", width / height);
    frame.classList.toggle("crisp", width <= SMALL);
    if (canvas) frame.append(canvas);
    return frame;
  }

  function figure(image, name, canvas) {
    const button = make("button", { type: "button", ariaLabel: `Enlarge ${image.id}, ${name}` });
    button.append(framed(image, canvas));
    button.addEventListener("click", () => enlarge(image));
    return make("figure", {}, button, make("figcaption", {}, name));
  }

  function facts(image) {
    const [, first, second] = pairs[pair.value];
    const gain = difference(image);
    const fact = (name, value, className = "") =>
      make("div", {}, make("dt", {}, name), make("dd", { className }, value));
    return make(
      "dl",
      {},
      fact(`Dice, ${first}`, score(image.scores[first])),
      fact(`Dice, ${second}`, score(image.scores[second])),
      fact("Difference", signed(gain), gain > 0 ? "good" : gain < 0 ? "bad" : ""),
    );
  }

  function row(image) {
    const [, first, second] = pairs[pair.value];
    const draw = { classes: classCanvas, outcomes: outcomeCanvas, nothing: () => null }[view.value];
    const pictures = make(
      "div",
      { className: shape(image.shown) },
      figure(image, "image", null),
      figure(image, "truth", view.value === "nothing" ? null : classCanvas(image, image.truth)),
      ...[first, second].map((cell) => figure(image, cell, draw(image, image.predictions[cell]))),
    );
    return make("li", { className: "sample" }, make("h4", {}, image.id), facts(image), pictures);
  }

  /** Show an image in the dialog with all views: classes, and what was found and missed. */
  function enlarge(image) {
    const [, first, second] = pairs[pair.value];
    const views = [
      ["image", null],
      ["truth", classCanvas(image, image.truth)],
      ...[first, second].map((cell) => [cell, classCanvas(image, image.predictions[cell])]),
      ...[first, second].map((cell) => [
        `${cell}: found, missed, false alarm`,
        outcomeCanvas(image, image.predictions[cell]),
      ]),
    ];
    const pictures = views.map(([name, canvas]) =>
      make("figure", {}, framed(image, canvas), make("figcaption", {}, name)),
    );
    const legends = all(".legend", root).map((legend) => legend.cloneNode(true));
    for (const legend of legends) legend.hidden = false;
    const grid = make("div", { className: isWide(image.shown) ? "views wide" : "views" }, ...pictures);
    document.getElementById("large-title").textContent = image.id;
    large.querySelector(".scroll").replaceChildren(facts(image), ...legends, grid);
    open = image;
    turnLarge = (step) => {
      const shown = sorted();
      const next = shown[shown.indexOf(open) + step];
      if (!next) return;
      page = Math.floor(shown.indexOf(next) / perPage);
      draw();
      enlarge(next);
    };
    if (!large.open) large.showModal();
    remember();
  }

  function draw() {
    const [, first, second] = pairs[pair.value];
    for (const option of only.options) {
      const [kind, side] = option.value.split("-");
      if (kind) option.textContent = `${kind === "missed" ? "missed by" : "false alarm of"} ${[first, second][side - 1]}`;
    }
    const shown = sorted();
    const pages = Math.max(1, Math.ceil(shown.length / perPage));
    page = Math.min(Math.max(page, 0), pages - 1);
    const rows = shown.slice(page * perPage, (page + 1) * perPage).map(row);
    root.querySelector(".samples").replaceChildren(...rows);
    const where = shown.length ? `page ${page + 1} of ${pages}, ${shown.length} images` : "no such image";
    for (const label of all(".where", root)) label.textContent = where;
    root.querySelector("[role=status]").textContent = where;
    for (const button of all("[data-step]", root)) {
      const next = page + Number(button.dataset.step);
      button.disabled = next < 0 || next >= pages;
    }
    root.querySelector(".legend.outcomes").hidden = view.value !== "outcomes";
    remember();
  }

  /** Write the state into the address, which can be copied: only what differs from the start. */
  function remember() {
    const state = new URLSearchParams({ browser: number });
    for (const [name, choice] of Object.entries(choices)) {
      if (choice.value !== choice.options[0].value) state.set(name, choice.value);
    }
    if (page) state.set("page", page + 1);
    if (open && large.open) state.set("image", open.id);
    if (ready) history.replaceState(null, "", state.size > 1 ? `#${state}` : location.pathname);
  }

  /** Read the state from the address, if it is of this browser. */
  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    if (state.get("browser") !== String(number)) return false;
    for (const [name, choice] of Object.entries(choices)) {
      const value = state.get(name);
      const isKnown = [...choice.options].some((option) => option.value === value);
      choice.value = isKnown ? value : choice.options[0].value;
    }
    page = Number(state.get("page") ?? 1) - 1 || 0;
    draw();
    live.scrollIntoView();
    const image = images.find(({ id }) => id === state.get("image"));
    if (image) enlarge(image);
    return true;
  }

  function turn(step) {
    page += step;
    draw();
    if (live.getBoundingClientRect().top < 0) live.scrollIntoView();
  }

  for (const choice of Object.values(choices)) {
    choice.addEventListener("change", () => {
      if (choice !== view) page = 0;
      draw();
    });
  }
  for (const button of all("[data-step]", root)) {
    button.addEventListener("click", () => turn(Number(button.dataset.step)));
  }
  live.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const next = root.querySelector(`[data-step="${step}"]`);
    if (!step || event.target.tagName === "SELECT" || next.disabled) return;
    live.focus({ preventScroll: true }); // a button that is disabled now would lose it
    turn(step);
    event.preventDefault();
  });
  large.addEventListener("close", () => {
    open = null;
    remember();
  });
  root.querySelector(".needs").remove();
  live.hidden = false;
  live.tabIndex = -1;
  let ready = false; // an address that opens the page is not overwritten
  if (!recall()) draw();
  ready = true;
  addEventListener("hashchange", recall);
}

large.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && turnLarge) {
    turnLarge(step);
    event.preventDefault();
  }
});

all(".browser").forEach((root, k) => browse(root, k + 1));
