// Elements of the explorer's page.

const NO_SHORTCUTS = "data-lm-suppress-shortcuts"; // JupyterLab leaves the keys to such elements
const TYPED = ["button", "input", "select", "tr"]; // elements that take keys, so named themselves
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes; text is never HTML. */
function make(parent, tag, attributes = {}, text = null) {
  const isSvg = parent?.namespaceURI === SVG || tag === "svg";
  const element = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  if (TYPED.includes(tag)) element.setAttribute(NO_SHORTCUTS, "true");
  if (text !== null) element.textContent = text;
  parent?.append(element);
  return element;
}

/** Numbers as in a sentence: “3”, “3 and 5”, “3, 5 and 8”. */
const inList = ids => [ids.slice(0, -1).join(", "), ids.at(-1)].filter(one => one !== "").join(" and ");

const plain = value => value.toFixed(3).replace("-", "−");

/** What a model sees of a mask: its box, black or blurred outside the mask, as a square. */
function crop(parent, view, k, form, title, id) {
  const mask = view.masks[k], [x, y, w, h] = mask.box, side = Math.max(w, h);
  const [width, height] = view.picture.size;
  const frame = make(make(parent, "div"), "svg", { role: "img", "aria-label": title,
    viewBox: `${x - (side - w) / 2} ${y - (side - h) / 2} ${side} ${side}` });
  make(frame.parentNode, "span", {}, title);
  const clip = `${id}-${k}-${form}-${parent.childElementCount}`;
  const defs = make(frame, "defs");
  make(make(defs, "clipPath", { id: clip }), "path", { d: mask.outline, "clip-rule": "evenodd" });
  make(make(defs, "clipPath", { id: `${clip}-box` }), "rect", { x, y, width: w, height: h });
  make(frame, "rect", { x: x - side, y: y - side, width: 3 * side, height: 3 * side });
  const href = view.picture.src;
  if (form === "blur") {
    make(make(frame, "g", { "clip-path": `url(#${clip}-box)` }), "image",
      { href, width, height, filter: `url(#${id}-blur)` });
  }
  make(frame, "image", { href, width, height, "clip-path": `url(#${clip})` });
}
