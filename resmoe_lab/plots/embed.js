// Draws the charts of a page with the vega bundle that stands before this script; needs no network and no kernel.
window.resmoe = window.resmoe || (() => {
  const charts = [];
  // Sliders of these names move together: one kept fraction for the whole page.
  const LINKED = ["keep", "layer"];
  const AXES = 90;
  let moving = false;

  function parts(spec) {
    return spec.hconcat || spec.vconcat || [spec];
  }

  function fit(spec, room) {
    if (spec.usermeta && spec.usermeta.fixed) return spec;
    if (spec.hconcat) {
      // Side by side as long as the panels stay readable, one below the other on a narrow page.
      const sum = spec.hconcat.reduce((total, part) => total + (part.width || 300), 0);
      const scale = Math.min(1, (room - AXES * spec.hconcat.length - 30) / sum);
      if (scale >= 0.6) {
        for (const part of spec.hconcat) part.width = Math.floor((part.width || 300) * scale);
        return spec;
      }
      spec.vconcat = spec.hconcat;
      delete spec.hconcat;
    }
    for (const part of parts(spec)) {
      const width = Math.max(150, Math.min(part.width || 300, room - (spec.usermeta?.beside ?? AXES)));
      if (spec.usermeta && spec.usermeta.square) part.height = (part.height * width) / part.width;
      part.width = width;
    }
    return spec;
  }

  function follow(chart, name, value) {
    const bind = (chart.spec.params || []).find((param) => param.name === name && param.bind);
    if (!bind || chart.view.signal(name) === value) return;
    const clamped = Math.min(bind.bind.max, Math.max(bind.bind.min, value));
    chart.values[name] = clamped;
    chart.view.signal(name, clamped).runAsync();
  }

  function moved(chart, name, value) {
    chart.values[name] = value;
    if (moving) return;
    moving = true;
    for (const other of charts) if (other !== chart && other.view && other.element.isConnected) follow(other, name, value);
    document.dispatchEvent(new CustomEvent("resmoe:" + name, { detail: value }));
    moving = false;
  }

  async function render(chart) {
    chart.room = chart.element.clientWidth || 900;
    const spec = fit(structuredClone(chart.spec), chart.room);
    for (const param of spec.params || []) if (param.name in chart.values) param.value = chart.values[param.name];
    if (chart.view) chart.view.finalize();
    const actions = { export: true, source: false, compiled: false, editor: false };
    const result = await window.vegaEmbed(chart.element, spec, { renderer: "svg", actions });
    chart.view = result.view;
    for (const menu of chart.element.querySelectorAll("summary")) menu.setAttribute("aria-label", "save this chart");
    // A page with one slider for all of them needs no other of that name.
    for (const name of LINKED)
      if (document.getElementById("page-" + name))
        chart.element.querySelectorAll(`input[name="${name}"]`).forEach((input) => { input.closest(".vega-bind").hidden = true; });
    for (const param of spec.params || [])
      if (param.bind && LINKED.includes(param.name)) chart.view.addSignalListener(param.name, (name, value) => moved(chart, name, value));
  }

  let timer = 0;
  window.addEventListener("resize", () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      for (const chart of charts)
        if (chart.element.isConnected && Math.abs(chart.element.clientWidth - chart.room) > 8) render(chart);
    }, 200);
  });

  return {
    charts,
    draw(element, spec) {
      const chart = { element, spec, values: {}, view: null, room: 0 };
      charts.push(chart);
      // A notebook would take the arrow keys of a slider that has the focus, and keep the slider from moving.
      element.addEventListener("keydown", (event) => {
        if (event.target.matches("input, select")) event.stopPropagation();
      });
      return render(chart);
    },
    // Moves every slider of this name, as if the user had.
    set(name, value) {
      for (const chart of charts) if (chart.view) follow(chart, name, value);
    },
  };
})();
