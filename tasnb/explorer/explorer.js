// The explorer: one picture, its masks and their scores, and everything that can be asked of them.
//
// The same module, whose parts page.py puts together, runs in notebooks (anywidget calls `render`)
// and in pages (which call `mount`). content.py documents the view that it draws. All arithmetic on
// scores happens in the browser; `ask` goes to Python for what is not in the view, and is null where
// there is no kernel.

const SIDES = { left: ["x", 1], right: ["x", -1], top: ["y", 1], bottom: ["y", -1] };
const COLOURS = ["#ff2bd6", "#00d5ff", "#ffe600", "#7a3cff", "#ff7a00", "#00e08a", "#ff1f4b",
  "#2f6bff", "#b6ff00", "#a3004f", "#00897b", "#8d5524"];
const TITLES = { likely: "likelihood by S, of 1 for the best mask",
  E: "evidence: how much speaks for this mask, whatever the others are" };
let mounted = 0; // makes the ids of two explorers on one page differ

/** The caption of a mask by the captioner's input that is chosen. */
const captionOf = (view, choice, k) => view.captions[choice.caption_input]?.[k] ?? "";

/**
 * Draws a view into an element.
 *
 * @param root The element; its content is replaced.
 * @param first The view, see content.py.
 * @param ask Sends a request to Python and promises a view, or null without a kernel.
 * @param open Promises the view of the expression with a number, where a page has all of them.
 * @param onExpression Called with the number of the expression when it changes.
 * @returns {show, close}: `show(view)` draws another view; `close()` removes what was added.
 */
export function mount(root, first, { ask = null, open = null, onExpression = () => {} } = {}) {
  const id = `tasnb${mounted++}`;
  let view, expression, choice, weights, result, pointed = null, pinned = [], busy = false;
  root.classList.add("tasnb-explorer");
  root.setAttribute(NO_SHORTCUTS, "true");
  root.replaceChildren();

  const bar = make(root, "form", { class: "ask", onsubmit: event => { event.preventDefault();
    request({ expression: field.value }); } });
  const field = make(bar, "input", { type: "text", "aria-label": "expression", maxlength: 1000,
    dir: "auto", autocomplete: "off", spellcheck: false, hidden: !ask,
    onkeydown: event => { // JupyterLab suppresses what Enter does in a form
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      request({ expression: field.value });
    } });
  const words = make(bar, "strong", { class: "words", dir: "auto", hidden: Boolean(ask) });
  const submit = make(bar, "button", { type: "submit" }, "Segment");
  const walk = make(bar, "span", { class: "walk" });
  const back = make(walk, "button", { type: "button", title: "previous expression",
    onclick: () => step(-1) }, "‹");
  const place = make(walk, "span");
  const next = make(walk, "button", { type: "button", title: "next expression",
    onclick: () => step(1) }, "›");
  const jumps = make(bar, "select", { "aria-label": "jump to the next expression of a kind",
    onchange: () => { jump(view.jumps[jumps.selectedIndex - 1].at); jumps.selectedIndex = 0; } });
  const file = make(bar, "input", { type: "file", accept: "image/*", hidden: true,
    onchange: () => { if (file.files[0]) upload(file.files[0]); file.value = ""; } });
  const opener = make(bar, "button", { type: "button", onclick: () => file.click() },
    "Open a picture …");
  const status = make(root, "p", { class: "status", role: "status" });

  const body = make(root, "div", { class: "body" });
  const left = make(body, "div", { class: "left" });
  const picture = make(left, "svg", { class: "picture", role: "img" });
  const legend = make(left, "p", { class: "legend" });
  const cards = make(left, "div", { class: "cards", "aria-live": "off" });
  const right = make(body, "div", { class: "right" });
  const reading = make(right, "dl", { class: "reading" });
  const controls = make(right, "div", { class: "controls" });
  const table = make(make(right, "div", { class: "ranking" }), "table");
  const actions = make(right, "p", { class: "actions" });
  const about = make(root, "p", { class: "about" });

  // controls
  const sliders = {};
  function slider(name, label, most) {
    const row = make(controls, "label", { class: "slider" });
    make(row, "span", {}, label);
    sliders[name] = { row, value: make(row, "output"), input: make(row, "input", {
      type: "range", min: 0, max: most, step: 0.01,
      oninput: event => { weights[name] = Number(event.target.value); update(); } }) };
  }
  slider("alpha", "α, weight of P", 1);
  slider("lam", "λ, weight of N", 2);
  const switches = {};
  const row = make(controls, "div", { class: "switches" });
  for (const name of ["P", "N", "rectifier"]) {
    const label = make(row, "label");
    switches[name] = make(label, "input", { type: "checkbox",
      onchange: event => { weights[name] = event.target.checked; update(); } });
    make(label, "span", {}, name);
  }
  const label = make(row, "label");
  switches.answers = make(label, "input", { type: "checkbox", onchange: event => {
    weights.answers = event.target.checked ? "any" : "one";
    update();
  } });
  make(label, "span", {}, "several masks or none");
  make(row, "button", { type: "button", onclick: () => { reset(); update(); } }, "Reset");
  slider("several_share", "likely, at least", 1);
  slider("least_evidence", "E, at least", 2);
  const selects = {};
  const titles = { recipe: "recipe", encoder: "encoder", clip_input: "CLIP sees",
    caption_input: "captioner sees" };
  const lists = make(controls, "div", { class: "lists" });
  for (const [name, title] of Object.entries(titles)) {
    const label = make(lists, "label");
    make(label, "span", {}, title);
    selects[name] = make(label, "select", { onchange: event => choose(name, event.target.value) });
  }

  const give = downloads(() => ({ view, expression, choice, weights, result }), say);
  make(actions, "button", { type: "button", onclick: give.copy }, "Copy as code");
  make(actions, "button", { type: "button", onclick: give.saveMask }, "Mask (PNG)");
  make(actions, "button", { type: "button", onclick: give.saveOverlay }, "Overlay (PNG)");
  make(actions, "button", { type: "button", onclick: give.saveTable }, "Table (CSV)");

  // --- what is asked -----------------------------------------------------------------------------

  async function request(wanted, buffers = []) {
    if (busy) return say("Still computing the last answer …");
    if ("expression" in wanted && !wanted.expression.trim()) {
      return say("Type an expression first, such as “the left cat”.", true);
    }
    if (!ask) return say("This page has no kernel: open it in a notebook to ask something new.", true);
    busy = true;
    root.classList.add("busy");
    say("Computing …");
    try {
      const answer = await ask({ choice, at: view.at, ...wanted }, buffers, progress);
      if (answer.error) say(answer.error, true);
      else show(answer.view);
    } catch (error) {
      say(error.message || String(error), true);
    } finally {
      busy = false;
      root.classList.remove("busy");
      update();
    }
  }

  /** How far an answer is; without any steps, what is wrong. */
  function progress(done, all, what) {
    if (!all) return say(what, true);
    say(`Computing … ${what}, step ${done} of ${all}`);
    make(status, "progress", { value: done - 1, max: all });
  }

  function say(text, wrong = false) {
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  }

  function step(by) { go(view.at + by); }

  /** Whether an expression can be shown: in a page that stands alone, only those of this view. */
  const reachable = number => (ask || open ? number >= 0 && number < view.count : isHere(number));
  const isHere = number => view.first <= number && number < view.first + view.expressions.length;

  async function go(number) {
    if (!reachable(number)) return;
    if (isHere(number)) {
      view.at = number;
      pointed = null;
      pinned = [];
      say("");
      select();
      onExpression(number);
    } else if (open) {
      show(await open(number));
      onExpression(number);
    } else request({ go: number });
  }

  /** The next one after the expression shown, or the first. */
  function jump(those) { go(those.find(at => at > view.at) ?? those[0]); }

  async function upload(picked) {
    if (picked.size > 60e6) return say("The file is larger than 60 MB; choose a smaller one.", true);
    await request({ picture: picked.name, text: expression.truth ? "" : field.value },
      [await picked.arrayBuffer()]);
  }

  function choose(name, value) {
    const wanted = { ...choice, [name]: value };
    if (name !== "recipe" && scoresOf(expression, wanted)) {
      choice = wanted;
      update();
    } else if (ask && name === "recipe") request({ choice: begun(wanted) });
    else if (ask) request({ choice: wanted });
    else {
      say("This page lacks these scores: open it in a notebook to compute them.", true);
      selects[name].value = choice[name];
    }
  }

  /** A choice of another recipe, with its own inputs and weights where the user changed nothing. */
  function begun(wanted) {
    const from = view.recipes[choice.recipe], to = view.recipes[wanted.recipe];
    for (const name of ["alpha", "lam"]) if (weights[name] === from[name]) weights[name] = to[name];
    const inputs = ["caption_input", "clip_input"].filter(name => wanted[name] === from[name]);
    return { ...wanted, ...Object.fromEntries(inputs.map(name => [name, to[name]])) };
  }

  function reset() {
    weights = { ...view.weights, P: true, N: true, rectifier: true };
  }

  // --- drawing -----------------------------------------------------------------------------------

  /** Draws another view; the weights stay as they are. */
  function show(other) {
    view = other;
    if (!weights) reset();
    choice = { ...view.choice };
    pointed = null;
    pinned = [];
    for (const [name, select] of Object.entries(selects)) {
      select.replaceChildren();
      for (const one of view.choices[name]) make(select, "option", { value: one }, one);
    }
    jumps.replaceChildren();
    make(jumps, "option", {}, "jump to …");
    for (const { title, at } of view.jumps) {
      make(jumps, "option", { disabled: !at.length }, `${title} (${at.length})`);
    }
    jumps.hidden = !ask || !view.jumps.length;
    walk.hidden = view.count < 2 || (!ask && !open && view.expressions.length < 2);
    submit.hidden = opener.hidden = !ask;
    about.textContent = view.about;
    drawPicture();
    say(view.masks.length ? "" : "No masks were found in this picture; try one with clearer objects.",
      !view.masks.length);
    select();
  }

  function select() {
    expression = view.expressions[view.at - view.first];
    field.value = words.textContent = expression.text;
    place.textContent = ask || open ? `${view.at + 1} of ${view.count}`
      : `${view.at - view.first + 1} of ${view.expressions.length}`;
    back.disabled = !reachable(view.at - 1);
    next.disabled = !reachable(view.at + 1);
    drawReading();
    update();
  }

  const layer = {};

  function drawPicture() {
    const [width, height] = view.picture.size;
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.style.aspectRatio = `${width} / ${height}`;
    picture.replaceChildren();
    const defs = make(picture, "defs");
    const blur = make(defs, "filter", { id: `${id}-blur`, x: 0, y: 0, width: 1, height: 1 });
    make(blur, "feGaussianBlur", { stdDeviation: view.blur });
    make(picture, "image", { href: view.picture.src, width, height });
    layer.half = make(picture, "g", { class: "half" });
    layer.truth = make(picture, "g", { class: "truth" });
    layer.masks = make(picture, "g", { class: "masks" });
    layer.clip = make(picture, "g", { class: "clip" });
    layer.cross = make(picture, "g", { class: "cross" });
    const big = [...view.masks.keys()].sort((a, b) => view.masks[b].area - view.masks[a].area);
    for (const k of big) {
      const mask = view.masks[k];
      const group = make(layer.masks, "g", { "data-mask": k,
        onpointerenter: () => point(k), onpointerleave: () => point(null), onclick: () => pin(k) });
      make(group, "path", { d: mask.outline, class: "dark" });
      make(group, "path", { d: mask.outline, class: "light", stroke: COLOURS[k % COLOURS.length],
        fill: COLOURS[k % COLOURS.length] });
    }
    layer.numbers = make(picture, "g", { class: "numbers" });
    const unit = Math.max(width, height) / 32;
    for (const [k, mask] of view.masks.entries()) {
      const label = make(layer.numbers, "text", { x: mask.center[0], y: mask.center[1],
        "font-size": unit }, String(mask.id));
      label.dataset.mask = k;
    }
  }

  function drawReading() {
    reading.replaceChildren();
    const line = title => { make(reading, "dt", {}, title); return make(reading, "dd"); };
    make(line("subject"), "b", {}, expression.subject || "none");
    line("place").textContent = expression.places || expression.orientation
      || "none: all masks are kept";
    line("caption of the image").textContent = view.caption || "none";
    const phrases = line("its phrases");
    if (!expression.phrases.length) phrases.textContent = "none";
    for (const phrase of expression.phrases) {
      make(phrases, "span", { class: phrase.negative ? "negative" : "synonym", title: phrase.why },
        phrase.negative ? `− ${phrase.text}` : phrase.text);
      if (!phrase.negative) make(phrases, "small", {}, phrase.why);
    }
    if (expression.truth) line("ground truth").textContent = expression.truth.target;
  }

  function update() {
    const scores = scoresOf(expression, choice);
    for (const [name, { input, value }] of Object.entries(sliders)) {
      input.min = Math.min(0, weights[name]);
      input.max = Math.max(input.max, weights[name]);
      input.value = weights[name];
      value.textContent = weights[name].toFixed(2);
    }
    const evidence = scores && evidenceOf(expression, choice);
    const isAny = weights.answers === "any" && Boolean(evidence);
    for (const name of ["several_share", "least_evidence"]) sliders[name].row.hidden = !isAny;
    for (const [name, input] of Object.entries(switches)) input.checked = weights[name];
    switches.answers.checked = isAny;
    switches.answers.disabled = !evidence;
    label.title = evidence ? "all masks that are nearly as likely as the best one, or none if too "
      + "little speaks for it" : "This page lacks the evidence: open the picture in a notebook.";
    for (const [name, input] of Object.entries(selects)) {
      for (const option of input.options) {
        option.disabled = !ask && option.value !== choice[name]
          && (name === "recipe" || !scoresOf(expression, { ...choice, [name]: option.value }));
      }
      input.value = choice[name];
      input.disabled = [...input.options].filter(option => !option.disabled).length < 2;
    }
    result = scores && view.masks.length ? resultOf(scores, evidence, isAny) : null;
    drawAnswer();
    drawTable();
    drawCards();
  }

  function resultOf(scores, evidence, isAny) {
    const found = ranked(scores, expression.inside, weights);
    const likely = likelihoods(found, view.temperature);
    const answer = answered(found, likely, evidence, weights);
    return { scores, ...found, answer, ...(isAny && { likely, evidence }) };
  }

  /** The answer in words, such as “masks 3 and 5 together, IoU 0.71”. */
  function inWords() {
    const { answer, order, evidence } = result, ids = answer.map(k => view.masks[k].id);
    if (ids.length === 1) return `mask ${ids[0]}${overlap(answer)}`;
    if (ids.length) return `masks ${inList(ids)} together${overlap(answer)}`;
    const [found, least] = toldApart(evidence[order[0]], weights.least_evidence);
    return `nothing in the picture fits: the evidence for the best mask, `
      + `${view.masks[order[0]].id}, is ${found}, below ${least}`;
  }

  function drawAnswer() {
    for (const group of ["half", "truth", "clip", "cross"]) layer[group].replaceChildren();
    legend.replaceChildren();
    const key = (name, text) => make(legend, "span", { class: name }, text);
    const chosen = result?.answer ?? [];
    picture.classList.toggle("nothing", Boolean(result) && !chosen.length);
    for (const group of layer.masks.children) {
      const k = Number(group.dataset.mask);
      group.setAttribute("class", [chosen.includes(k) && "chosen", k === pointed && "pointed",
        pinned.includes(k) && "pinned", result && !result.kept[k] && "outside",
      ].filter(Boolean).join(" "));
    }
    for (const label of layer.numbers.children) {
      label.setAttribute("class", chosen.includes(Number(label.dataset.mask)) ? "chosen" : "");
    }
    if (result) key(chosen.length ? "chosen" : "chosen none", `TAS: ${inWords()}`);
    const clip = result && best(result.scores.V);
    if (result && !chosen.includes(clip)) {
      outline(layer.clip, view.masks[clip].outline);
      key("clip", `V alone: mask ${view.masks[clip].id}${overlap([clip])}`);
    }
    if (expression.truth) {
      outline(layer.truth, expression.truth.outline);
      key("truth", "ground truth");
    }
    drawHalf();
    const ids = chosen.map(k => view.masks[k].id);
    const told = !ids.length ? result && inWords()
      : `mask${ids.length > 1 ? "s" : ""} ${inList(ids)} ${ids.length > 1 ? "are" : "is"} chosen`;
    picture.setAttribute("aria-label", result
      ? `${view.masks.length} masks; for “${expression.text}” ${told}` : "the picture");
  }

  function outline(group, d) {
    make(group, "path", { d, class: "dark" });
    make(group, "path", { d, class: "light" });
  }

  /** IoU of some masks together. */
  function overlap(those) {
    if (!expression.truth) return "";
    const { iou, rle } = expression.truth;
    const found = those.length === 1 ? iou[those[0]]
      : iouOf(those.map(k => view.masks[k].rle), rle);
    return `, IoU ${found.toFixed(2)}`;
  }

  /** The median cross, and the half that the rectifier excludes. */
  function drawHalf() {
    const sides = expression.orientation.split(" ").filter(side => side in SIDES);
    if (!sides.length || !weights.rectifier || !view.masks.length) return;
    const [width, height] = view.picture.size, most = { x: width, y: height };
    for (const side of sides) {
      const [axis, sign] = SIDES[side];
      const middle = median(view.masks.map(mask => mask.center[axis === "x" ? 0 : 1]));
      const from = sign > 0 ? middle : 0, length = sign > 0 ? most[axis] - middle : middle;
      make(layer.half, "rect", axis === "x" ? { x: from, y: 0, width: length, height }
        : { x: 0, y: from, width, height: length });
      const ends = axis === "x" ? { x1: middle, x2: middle, y1: 0, y2: height }
        : { x1: 0, x2: width, y1: middle, y2: middle };
      make(layer.cross, "line", { ...ends, class: "dark" });
      make(layer.cross, "line", { ...ends, class: "light" });
    }
    const kept = expression.inside.some(Boolean) ? `kept: ${sides.join(" ")}`
      : `no mask is ${sides.join(" ")}: all are kept`;
    make(legend, "span", { class: "region" }, kept);
  }

  function drawTable() {
    const focused = table.contains(document.activeElement)
      ? Number(document.activeElement.dataset.mask) : null;
    table.replaceChildren();
    if (!result) return;
    const withTruth = Boolean(expression.truth);
    const head = make(make(table, "thead"), "tr");
    const { likely, evidence, answer } = result;
    const values = { ...result.scores, S: result.S };
    for (const name of ["", "mask", "S", ...(likely ? ["likely", "E"] : []),
      ...(withTruth ? ["IoU"] : []), ...Object.keys(result.scores), "caption"]) {
      make(head, "th", { scope: "col", title: TITLES[name] ?? null }, name);
    }
    const rows = make(table, "tbody");
    result.order.forEach((k, rank) => {
      const line = make(rows, "tr", { tabindex: rank ? -1 : 0, "data-mask": k, "aria-selected":
        String(pinned.includes(k)), class: [answer.includes(k) && "chosen", !result.kept[k] && "outside",
        k === pointed && "pointed", pinned.includes(k) && "pinned"].filter(Boolean).join(" "),
      onpointerenter: () => point(k), onpointerleave: () => point(null), onfocus: onFocus,
      onclick: () => pin(k), onkeydown: event => onKey(event, k) });
      make(line, "td", {}, result.kept[k] ? String(rank + 1) : "out");
      const mask = make(line, "td");
      make(mask, "i", { class: "dot", style: `background: ${COLOURS[k % COLOURS.length]}` });
      mask.append(String(view.masks[k].id));
      bars(make(line, "td", { class: "bar" }), values.S, k, "S");
      if (likely) {
        make(line, "td", { class: "number" }, likely[k].toFixed(2));
        bars(make(line, "td", { class: "bar" }), evidence, k, "E");
      }
      if (withTruth) make(line, "td", { class: "number" }, expression.truth.iou[k].toFixed(2));
      for (const name of Object.keys(result.scores)) {
        bars(make(line, "td", { class: "bar" }), values[name], k, name);
      }
      make(line, "td", { class: "said", dir: "auto" }, captionOf(view, choice, k));
      if (k === focused) line.focus();
    });
  }

  function bars(cell, values, k, name) {
    const low = Math.min(...values), span = Math.max(...values) - low;
    const share = span ? (values[k] - low) / span : 1;
    make(cell, "i", { class: `fill ${name}`, style: `width: ${(4 + 96 * share).toFixed(1)}%` });
    make(cell, "span", {}, plain(values[k]));
  }

  /** Tab enters the table at one row only, the last one that was looked at. */
  function onFocus({ currentTarget: line }) {
    for (const other of line.parentNode.children) other.tabIndex = other === line ? 0 : -1;
    point(Number(line.dataset.mask));
  }

  function onKey(event, k) {
    const line = event.currentTarget, all = line.parentNode;
    const to = { ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling,
      Home: all.firstElementChild, End: all.lastElementChild }[event.key];
    if (to) to.focus();
    else if (event.key === "Enter" || event.key === " ") pin(k);
    else if (event.key === "Escape") { pinned = []; refresh(); }
    else return;
    event.preventDefault();
  }

  function point(k) {
    if (pointed === k) return;
    pointed = k;
    refresh();
  }

  function pin(k) {
    pinned = pinned.includes(k) ? pinned.filter(one => one !== k) : [...pinned, k].slice(-2);
    refresh();
  }

  /** Redraws only what depends on pointing and pinning. */
  function refresh() {
    for (const element of [...layer.masks.children, ...table.querySelectorAll("tbody tr")]) {
      const k = Number(element.dataset.mask);
      element.classList.toggle("pointed", k === pointed);
      element.classList.toggle("pinned", pinned.includes(k));
      if (element.tagName === "TR") element.setAttribute("aria-selected", pinned.includes(k));
    }
    drawCards();
  }

  /** What CLIP and the captioner see of the pinned masks, and of the one pointed at or chosen. */
  function drawCards() {
    cards.replaceChildren();
    if (!result) return;
    const { answer, order, evidence } = result;
    const first = answer.length ? answer.slice(0, 2) : order.slice(0, 1);
    const current = pointed === null ? (pinned.length ? [] : first) : [pointed];
    const shown = [...pinned, ...current.filter(k => !pinned.includes(k))];
    for (const k of shown.slice(-2)) {
      const card = make(cards, "figure", { class: pinned.includes(k) ? "pinned" : "" });
      const views = make(card, "div", { class: "crops" });
      const seen = choice.clip_input === "both" ? ["crop", "blur"] : [choice.clip_input];
      for (const form of seen) crop(views, view, k, form, "CLIP sees", id);
      crop(views, view, k, choice.caption_input, "captioner sees", id);
      const below = make(card, "figcaption");
      const role = answer.includes(k) ? ", chosen" : !answer.length && k === order[0] ? ", the best" : "";
      make(below, "b", {}, `mask ${view.masks[k].id}${role}`);
      make(below, "span", { dir: "auto" }, captionOf(view, choice, k) ? `“${captionOf(view, choice, k)}”` : "");
      const values = { ...result.scores, S: result.S, ...(evidence && { E: evidence }) };
      make(below, "span", {}, Object.entries(values)
        .map(([name, all]) => `${name}\u00a0${plain(all[k])}`).join("  "));
    }
  }

  show(first);
  return { show, close: () => root.replaceChildren() };
}
