// Two small widgets: a picture with words for those who cannot see it, and a row that saves and copies.
function picture({ model, el }) {
  const image = document.createElement("img");
  image.className = "resmoe-picture";
  // Stands where a picture will be; the progress beside it tells those who cannot see it.
  const skeleton = document.createElement("div");
  skeleton.className = "resmoe-skeleton";
  skeleton.setAttribute("aria-hidden", "true");
  let address = "";
  function wait() {
    const empty = !model.get("png")?.byteLength;
    skeleton.hidden = !empty || !model.get("pending");
    image.hidden = empty;
    el.style.display = empty && skeleton.hidden ? "none" : "";
  }
  function show() {
    const bytes = model.get("png");
    wait();
    if (!bytes || !bytes.byteLength) return;
    const old = address;
    address = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
    image.src = address;
    image.alt = model.get("alt");
    // The old picture stays until the new one is there, and then gives its memory back.
    image.decode().catch(() => {}).finally(() => URL.revokeObjectURL(old));
  }
  model.on("change:png", show);
  // The words may change where the picture does not.
  model.on("change:alt", () => { image.alt = model.get("alt"); });
  model.on("change:pending", wait);
  show();
  el.append(skeleton, image);
  return () => URL.revokeObjectURL(address);
}

function savebar({ model, el }) {
  const row = document.createElement("div");
  row.className = "resmoe-save";
  const files = document.createElement("span");
  const lines = document.createElement("span");
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  row.append(files, lines, said);
  el.append(row);

  function button(parent, label, title, pressed) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.title = title;
    made.addEventListener("click", pressed);
    parent.append(made);
  }
  function fill() {
    files.replaceChildren();
    for (const { name, label } of model.get("files"))
      button(files, label, "save " + name, () => model.send({ kind: "save", name }));
    lines.replaceChildren();
    for (const [kind, words] of [["command", "command line"], ["code", "code"]]) {
      const text = model.get(kind);
      if (text) button(lines, "copy as " + words, text, () => copy(text));
    }
  }
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = "copied: " + text;
    } catch {
      said.textContent = text;
    }
  }
  function saved(message, buffers) {
    if (message.kind === "failed") { said.textContent = message.text; return; }
    const bytes = buffers[0];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: message.type }));
    link.download = message.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    said.textContent = "saved " + message.name;
  }
  for (const trait of ["files", "command", "code"]) model.on("change:" + trait, fill);
  model.on("msg:custom", saved);
  fill();
}

export default {
  render({ model, el }) {
    return (model.get("kind") === "picture" ? picture : savebar)({ model, el });
  },
};
