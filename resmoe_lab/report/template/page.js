// The page's own slider moves the charts', theirs move it, and the tables show the nearest computed kept fraction.
(() => {
  const slider = document.getElementById("page-keep");
  const tables = new Map();
  for (const body of document.querySelectorAll("tbody[data-keep]")) {
    const table = body.parentElement;
    if (!tables.has(table)) tables.set(table, []);
    tables.get(table).push(body);
  }
  function nearest(bodies, keep) {
    const distance = (body) => Math.abs(Number(body.dataset.keep) - keep);
    return bodies.reduce((best, body) => (distance(body) < distance(best) ? body : best));
  }

  function show(keep) {
    for (const bodies of tables.values()) {
      const shown = nearest(bodies, keep);
      for (const body of bodies) body.hidden = body !== shown;
      const output = bodies[0].closest("section").querySelector("output[data-shows=keep]");
      if (output) output.value = shown.dataset.keep;
    }
    if (slider) slider.parentElement.querySelector("output").value = keep;
  }

  document.addEventListener("resmoe:keep", (event) => {
    if (slider) slider.value = event.detail;
    show(Number(event.detail));
  });
  if (slider) {
    slider.addEventListener("input", () => {
      show(Number(slider.value));
      window.resmoe.set("keep", Number(slider.value));
    });
    show(Number(slider.value));
  }
})();
