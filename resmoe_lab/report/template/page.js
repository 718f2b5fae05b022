// The page's own sliders: the one of kept fractions moves the charts, and theirs move it; tables show the nearest value.
(() => {
  function nearest(bodies, name, value) {
    const distance = (body) => Math.abs(Number(body.dataset[name]) - value);
    return bodies.reduce((best, body) => (distance(body) < distance(best) ? body : best));
  }

  // What holds from a value on holds until the next one.
  function latest(bodies, name, value) {
    const begun = bodies.filter((body) => Number(body.dataset[name]) <= value + 1e-9);
    return begun.length ? nearest(begun, name, value) : bodies[0];
  }

  // The slider of that name, and a function that shows a value in every table that follows it; `choose` says which body.
  function follow(name, choose) {
    const slider = document.getElementById(`page-${name}`);
    const tables = new Map();
    for (const body of document.querySelectorAll(`tbody[data-${name}]`)) {
      const table = body.parentElement;
      if (!tables.has(table)) tables.set(table, []);
      tables.get(table).push(body);
    }
    function show(value) {
      for (const bodies of tables.values()) {
        const shown = choose(bodies, name, value);
        for (const body of bodies) body.hidden = body !== shown;
        const output = bodies[0].closest("section").querySelector(`output[data-shows=${name}]`);
        if (output) output.value = choose === nearest ? shown.dataset[name] : value;
      }
      if (slider) slider.parentElement.querySelector("output").value = value;
    }
    return [slider, show];
  }

  const [keep, showKeep] = follow("keep", nearest);
  document.addEventListener("resmoe:keep", (event) => {
    if (keep) keep.value = event.detail;
    showKeep(Number(event.detail));
  });
  if (keep) {
    keep.addEventListener("input", () => {
      showKeep(Number(keep.value));
      window.resmoe.set("keep", Number(keep.value));
    });
    showKeep(Number(keep.value));
  }

  const [bits, showBits] = follow("bits", latest);
  if (bits) {
    bits.addEventListener("input", () => showBits(Number(bits.value)));
    showBits(Number(bits.value));
  }
})();
