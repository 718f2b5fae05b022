// The map of a checkpoint: a row a layer, a rectangle a part, its area the bytes that are stored.
// One file for the panel (an ipywidget) and for reports (an inline module): it needs nothing else.
const SVG = "http://www.w3.org/2000/svg";
const PART_COLOURS = {
  embeddings: "#8a8378", attention: "#5f6fd9", router: "#c4679b", center: "#239549", experts: "#1f78c8",
  "shared expert": "#0f8fa3", "feed-forward": "#6b8a2e", norms: "#c98500", head: "#8a8378",
};
const LABELS = 86, LEAST = 2;

function element(parent, tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function drawn(parent, tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function human(bytes) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]])
    if (bytes >= size) return `${bytes < 1000 * size ? (bytes / size).toPrecision(3) : (bytes / size).toFixed(0)} ${unit}`;
  return `${bytes} bytes`;
}

function mixed(share, light, dark) {
  return `color-mix(in srgb, ${dark} ${Math.round(100 * Math.min(1, Math.max(0, share)))}%, ${light})`;
}

export function drawMap(el, data, { select = () => {} } = {}) {
  el.replaceChildren();
  const root = element(el, "div", { class: "resmoe-map" });
  const bar = element(root, "div", { class: "resmoe-map-bar" });
  const formLabel = element(bar, "label", {}, "show ");
  const form = element(formLabel, "select");
  data.forms.forEach((one, index) => element(form, "option", { value: index }, `${one.name} (${human(one.bytes)})`));
  form.value = data.form ?? data.forms.length - 1;
  const colourLabel = element(bar, "label", {}, "colour ");
  const colour = element(colourLabel, "select");
  for (const [value, words] of [["part", "by part"], ["bits", "by stored bits a weight"], ["error", "by relative error"]])
    if (value !== "error" || Object.keys(data.errors).length) element(colour, "option", { value }, words);
  colour.value = data.colour || "part";
  const legend = element(root, "div", { class: "resmoe-map-legend" });
  const said = element(root, "p", { class: "resmoe-map-said", role: "status" });
  const place = element(root, "div", { class: "resmoe-map-place" });
  const largest = Math.max(...data.forms.flatMap((one) => one.rows.map((row) => row.bytes)));
  let chosen = data.layer ?? null;

  function fill(cell, layer) {
    if (colour.value === "part") return PART_COLOURS[cell.part];
    if (colour.value === "bits") return mixed((8 * cell.bytes) / Math.max(1, cell.weights) / 16, "#f3d9a4", "#1a4f86");
    const error = cell.part === "experts" && Number(form.value) > 0 ? data.errors[layer] : undefined;
    const top = Math.max(...Object.values(data.errors));
    return error === undefined ? "#8885" : mixed(Math.sqrt(error / top), "#f6e3d3", "#b3400a");
  }

  function words(row, cell) {
    const bits = cell.weights ? `, ${((8 * cell.bytes) / cell.weights).toPrecision(3)} bits a weight` : "";
    const which = cell.count > 1 ? `experts ${cell.expert} to ${cell.expert + cell.count - 1}` : cell.expert >= 0 ? `expert ${cell.expert}` : cell.part;
    const share = (100 * cell.bytes) / data.forms[Number(form.value)].bytes;
    const error = cell.part === "experts" && Number(form.value) > 0 && row.layer in data.errors ? `, relative error of the layer ${data.errors[row.layer].toPrecision(3)}` : "";
    return `${/^\d/.test(row.name) ? "layer " : ""}${row.name}, ${which}: ${human(cell.bytes)} (${share.toPrecision(2)} %)${bits}, ${cell.stored}, ${cell.shape}${error}`;
  }

  // Neighbouring experts that would be thinner than a line are drawn as one.
  function merged(cells, scale) {
    const result = [];
    for (const cell of cells) {
      const last = result[result.length - 1];
      if (last && last.part === "experts" && cell.part === "experts" && last.bytes * scale < LEAST)
        Object.assign(last, { bytes: last.bytes + cell.bytes, weights: last.weights + cell.weights, count: last.count + 1 });
      else result.push({ ...cell, count: 1 });
    }
    return result;
  }

  function draw() {
    const one = data.forms[Number(form.value)];
    const width = Math.max(260, Math.min(1600, el.clientWidth || 900));
    const height = Math.max(7, Math.min(24, 620 / one.rows.length));
    const scale = (width - LABELS - 4) / largest;
    place.replaceChildren();
    const svg = drawn(place, "svg", { width, height: height * one.rows.length + 4, role: "listbox", "aria-label": `map of ${data.name}, ${one.name}` });
    one.rows.forEach((row, index) => {
      const y = index * height + 2, layered = row.layer !== null;
      const group = drawn(svg, "g", layered ? { role: "option", tabindex: row.layer === (chosen ?? -1) ? 0 : -1, "aria-selected": row.layer === chosen } : { role: "presentation" });
      if (layered) group.dataset.layer = row.layer;
      if (layered) group.setAttribute("aria-label", `layer ${row.name}: ${human(row.bytes)}`);
      if (height > 9 || index % 2 === 0) drawn(group, "text", { x: LABELS - 8, y: y + height / 2 + 4, "text-anchor": "end" }, row.name);
      let x = LABELS;
      for (const cell of merged(row.cells, scale)) {
        const w = cell.bytes * scale;
        const rect = drawn(group, "rect", { x, y: y + 1, width: Math.max(0.4, w - (w > 4 ? 1 : 0)), height: height - 2, fill: fill(cell, row.layer) });
        const title = words(row, cell);
        drawn(rect, "title", {}, title);
        rect.addEventListener("mouseenter", () => { said.textContent = title; });
        x += w;
      }
    });
    drawLegend(one);
    mark();
  }

  function drawLegend(one) {
    legend.replaceChildren();
    const key = (fillOf, text) => {
      const entry = element(legend, "span");
      element(entry, "i", { style: `background:${fillOf}`, "aria-hidden": "true" });
      entry.append(` ${text}`);
    };
    if (colour.value === "part") {
      const sums = {};
      for (const row of one.rows) for (const cell of row.cells) sums[cell.part] = (sums[cell.part] || 0) + cell.bytes;
      for (const [part, bytes] of Object.entries(sums)) key(PART_COLOURS[part], `${part} ${((100 * bytes) / one.bytes).toPrecision(2)} %`);
    } else if (colour.value === "bits") {
      for (const bits of [1, 4, 8, 16]) key(mixed(bits / 16, "#f3d9a4", "#1a4f86"), `${bits} bits`);
    } else {
      const top = Math.max(...Object.values(data.errors));
      key(mixed(0, "#f6e3d3", "#b3400a"), "0");
      key(mixed(1, "#f6e3d3", "#b3400a"), `relative error ${top.toPrecision(2)}`);
    }
  }

  function mark() {
    const groups = [...place.querySelectorAll("g[role=option]")];
    for (const group of groups) {
      const own = Number(group.dataset.layer) === chosen;
      group.setAttribute("aria-selected", own);
      group.setAttribute("tabindex", own || (chosen === null && group === groups[0]) ? 0 : -1);
    }
  }

  function choose(group, focus) {
    if (!group) return;
    chosen = Number(group.dataset.layer);
    mark();
    if (focus) group.focus();
    const rects = [...group.querySelectorAll("title")];
    said.textContent = `layer ${group.querySelector("text")?.textContent ?? chosen} is chosen; ${rects.length} parts, ${group.getAttribute("aria-label").split(": ")[1]}`;
    select(chosen);
  }

  place.addEventListener("click", (event) => choose(event.target.closest("g[role=option]"), true));
  place.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const groups = [...place.querySelectorAll("g[role=option]")];
    choose(groups[Math.min(groups.length - 1, Math.max(0, groups.findIndex((one) => Number(one.dataset.layer) === chosen) + step))], true);
  });
  for (const control of [form, colour]) {
    control.addEventListener("input", draw);
    control.addEventListener("keydown", (event) => event.stopPropagation());
  }
  said.textContent = "Point at a part to see what it is; choose a layer with a click or the arrow keys.";
  draw();
  let seen = el.clientWidth;
  const observer = new ResizeObserver(() => { if (Math.abs(el.clientWidth - seen) > 8) { seen = el.clientWidth; draw(); } });
  observer.observe(el);
  return {
    show(layer) { if (layer !== chosen) { chosen = layer; mark(); } },
    state: () => ({ form: Number(form.value), colour: colour.value, layer: chosen }),
    close: () => observer.disconnect(),
  };
}

export default {
  render({ model, el }) {
    let map = null;
    function show() {
      const data = model.get("data");
      el.style.display = data ? "" : "none";
      if (!data) return;
      const before = map ? map.state() : {};
      if (map) map.close();
      const kept = before.colour && (before.colour !== "error" || Object.keys(data.errors).length) ? { colour: before.colour } : {};
      map = drawMap(el, { ...data, ...kept, layer: model.get("layer") }, { select: (layer) => { model.set("layer", layer); model.save_changes(); } });
    }
    function follow() { if (map) map.show(model.get("layer")); }
    model.on("change:data", show);
    model.on("change:layer", follow);
    show();
    return () => { if (map) map.close(); model.off("change:data", show); model.off("change:layer", follow); };
  },
};
