// A text, token by token: coloured by experts or by how far predictions move; a selected token tells more.
// One file for the panel (an ipywidget) and for reports (an inline module): it needs nothing else.
const COLOURS = ["#1f78c8", "#d1570a", "#0b7d5f", "#c4679b", "#9a62c7", "#c98500", "#0f8fa3", "#b0476b", "#6b8a2e", "#8a8378"];
const MODES = [
  ["kl", "how far the next prediction moves (KL)"],
  ["before", "expert in the original"],
  ["after", "expert after compression"],
  ["rerouted", "experts changed by compression"],
];

function element(parent, tag, attributes = {}, text = "") {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function expertColour(expert, count) {
  if (expert < 0) return "transparent";
  return count <= COLOURS.length ? COLOURS[expert] : `hsl(${(expert * 137.508) % 360} 65% 50%)`;
}

function tinted(colour, strength) {
  return `color-mix(in srgb, ${colour} ${Math.round(100 * strength)}%, transparent)`;
}

function percent(share) {
  return share === null || share === undefined ? "–" : share >= 0.0995 ? `${(100 * share).toFixed(0)} %` : `${(100 * share).toPrecision(2)} %`;
}

function visible(piece) {
  return piece.replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "∅";
}

export function drawTokens(el, data, { select = () => {} } = {}) {
  el.replaceChildren();
  const root = element(el, "div", { class: "resmoe-tokens" });
  const bar = element(root, "div", { class: "resmoe-tokens-bar" });
  const modeLabel = element(bar, "label", {}, "colour ");
  const mode = element(modeLabel, "select");
  for (const [value, words] of MODES) if (data.layers.length || value === "kl") element(mode, "option", { value }, words);
  mode.value = data.mode || "kl";
  const layerLabel = element(bar, "label", {}, "layer ");
  const layer = element(layerLabel, "input", { type: "range", min: 0, max: Math.max(0, data.layers.length - 1), step: 1 });
  const layerText = element(layerLabel, "output");
  layer.value = data.layer || 0;
  const legend = element(root, "div", { class: "resmoe-tokens-legend" });
  const text = element(root, "div", { class: "resmoe-tokens-text", role: "listbox", "aria-label": "tokens of the text" });
  const detail = element(root, "div", { class: "resmoe-tokens-detail", "aria-live": "polite" });
  const at = new Map(data.predicting.map((token, row) => [token, row]));
  const spans = data.pieces.map((piece, token) => {
    const span = element(text, "span", { role: "option", "aria-selected": "false", tabindex: token === 0 ? 0 : -1 });
    span.textContent = piece;
    if (!piece.trim()) span.textContent = piece.includes("\n") ? piece.replace(/\n/g, "⏎\n") : piece || "∅";
    return span;
  });
  let selected = -1;
  // Texts beside each other have one scale.
  const top = data.scale || Math.max(...data.kl, 1e-9);

  function take() {
    const index = Number(layer.value);
    const known = data.experts.length > 0;
    layerLabel.hidden = mode.value === "kl" || !known;
    layerText.textContent = known ? ` ${data.layers[index]}` : "";
    spans.forEach((span, token) => {
      const row = at.get(token), routed = known ? data.experts[index][token] : null;
      let colour = "transparent", title = "";
      if (mode.value === "kl") {
        if (row !== undefined) colour = tinted("#d1570a", 0.75 * Math.min(1, Math.sqrt(data.kl[row] / top)));
        title = row === undefined ? "nothing is predicted after this token" : `KL ${data.kl[row].toPrecision(3)} nats`;
      } else if (!routed) {
        title = `layer ${data.layers[index]} does not see this token`;
      } else if (mode.value === "rerouted") {
        const [before, after] = routed;
        const lost = before.filter((expert) => !after.includes(expert)).length / before.length;
        colour = tinted("#d1570a", 0.7 * lost);
        title = lost ? `experts ${before.join(", ")} became ${after.join(", ")}` : `experts ${before.join(", ")} before and after`;
      } else {
        const experts = routed[mode.value === "before" ? 0 : 1];
        colour = tinted(expertColour(experts[0], data.count), 0.45);
        title = `experts ${experts.join(", ")}`;
      }
      span.style.background = colour;
      span.title = `${visible(data.pieces[token])}: ${title}`;
    });
    drawLegend(index);
  }

  function drawLegend(index) {
    legend.replaceChildren();
    const key = (colour, words) => {
      const entry = element(legend, "span");
      element(entry, "i", { style: `background:${colour}`, "aria-hidden": "true" });
      entry.append(` ${words}`);
    };
    if (mode.value === "kl") {
      key(tinted("#d1570a", 0), "0");
      key(tinted("#d1570a", 0.75), `KL ${top.toPrecision(2)} nats`);
    } else if (mode.value === "rerouted") {
      key(tinted("#d1570a", 0), "the same experts");
      key(tinted("#d1570a", 0.7), "all others");
    } else {
      const which = mode.value === "before" ? 0 : 1, counts = new Map();
      for (const routed of data.experts[index]) if (routed) counts.set(routed[which][0], (counts.get(routed[which][0]) || 0) + 1);
      const most = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, 16);
      for (const [expert, tokens] of most)
        key(tinted(expertColour(expert, data.count), 0.45), `${expert < 0 ? "none" : `expert ${expert}`} (${tokens})`);
    }
  }

  function choose(token, focus) {
    if (selected >= 0) spans[selected].setAttribute("aria-selected", "false");
    spans.forEach((span, index) => { span.tabIndex = index === token ? 0 : -1; });
    selected = token;
    spans[token].setAttribute("aria-selected", "true");
    if (focus) spans[token].focus();
    drawDetail();
    select(token);
  }

  function drawDetail(lens) {
    detail.replaceChildren();
    if (selected < 0) return void element(detail, "p", {}, "Choose a token: what both models predict after it, and in which layer they part.");
    const row = at.get(selected);
    if (row === undefined) return void element(detail, "p", {}, "Nothing is predicted after this token: it is read by the encoder.");
    const follows = selected + 1 < data.pieces.length ? `, followed by “${visible(data.pieces[selected + 1])}”` : "";
    element(detail, "p", {}, `After token ${selected}, “${visible(data.pieces[selected])}”${follows}: KL ${data.kl[row].toPrecision(3)} nats.`);
    const sides = element(detail, "div", { class: "resmoe-tokens-sides" });
    ["original", data.label].forEach((name, which) => {
      const table = element(sides, "table");
      element(table, "caption", {}, name);
      const head = element(element(table, "thead"), "tr");
      element(head, "th", { scope: "col" }, "next token");
      element(head, "th", { scope: "col" }, "probability");
      const body = element(table, "tbody");
      for (const [piece, probability] of data.top[which][row]) {
        const line = element(body, "tr");
        element(line, "td", {}, visible(piece));
        const cell = element(line, "td", {}, percent(probability));
        cell.style.background = `linear-gradient(to right, ${tinted("#1f78c8", 0.35)} ${100 * probability}%, transparent 0)`;
      }
      if (follows) element(element(body, "tr"), "td", { colspan: 2 }, `what follows: ${percent(data.next[which][row])}`);
    });
    drawLayers(lens && lens[selected] ? lens[selected] : null, row);
  }

  function drawLayers(lens, row) {
    const table = element(detail, "table", { class: "resmoe-tokens-layers" });
    element(table, "caption", {}, "layer by layer: distance of the hidden states, and what the model would say if it stopped there");
    const head = element(element(table, "thead"), "tr");
    for (const words of ["after layer", "distance", "original", data.label]) element(head, "th", { scope: "col" }, words);
    const body = element(table, "tbody"), largest = Math.max(...data.distance.map((layer) => layer[row]), 1e-9);
    data.distance.forEach((layer, index) => {
      const line = element(body, "tr");
      element(line, "td", {}, index === 0 ? "embeddings" : String(index - 1));
      const cell = element(line, "td", {}, percent(layer[row]));
      cell.style.background = `linear-gradient(to right, ${tinted("#d1570a", 0.35)} ${(100 * layer[row]) / largest}%, transparent 0)`;
      for (const which of [0, 1]) {
        const said = lens ? lens[index][which] : null;
        element(line, "td", {}, said ? `${visible(said[0])} (${percent(said[1])})` : data.asks ? "…" : "");
      }
      if (lens && lens[index][0][0] !== lens[index][1][0]) line.className = "resmoe-tokens-parted";
    });
  }

  text.addEventListener("click", (event) => {
    const token = spans.indexOf(event.target);
    if (token >= 0) choose(token, true);
  });
  text.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -spans.length, End: spans.length };
    if (!(event.key in steps) || !spans.length) return;
    event.preventDefault();
    event.stopPropagation();
    choose(Math.min(spans.length - 1, Math.max(0, Math.max(selected, 0) + steps[event.key])), true);
  });
  for (const control of [mode, layer]) {
    control.addEventListener("input", take);
    // A notebook would take the arrow keys of a control that has the focus.
    control.addEventListener("keydown", (event) => event.stopPropagation());
  }
  take();
  drawDetail(data.lens);
  return {
    lens(answers) { data.lens = { ...data.lens, ...answers }; drawDetail(data.lens); },
    selected: () => selected,
  };
}

export default {
  render({ model, el }) {
    let drawn = null;
    function show() {
      const data = model.get("data");
      el.style.display = data && data.pieces ? "" : "none";
      if (data && data.pieces) drawn = drawTokens(el, { ...data, asks: true }, { select: (token) => model.send({ token }) });
    }
    function told(message) {
      if (drawn && message.lens) drawn.lens(message.lens);
    }
    model.on("change:data", show);
    model.on("msg:custom", told);
    show();
    return () => { model.off("change:data", show); model.off("msg:custom", told); };
  },
};
