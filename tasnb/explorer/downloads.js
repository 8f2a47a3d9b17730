// What the explorer gives away: the call of Python, the mask, the overlay and the table.

/** The call of Python that gives this answer. */
export function codeOf(view, expression, choice, weights) {
  const python = value => Array.isArray(value) ? `(${value.map(python).join(", ")},)`
    : value === null ? "None" : value === true ? "True" : value === false ? "False"
    : JSON.stringify(value);
  const settings = { ...view.code.settings };
  const defaults = { ...view.defaults, ...view.recipes[choice.recipe] };
  const differs = (name, value) => { if (value !== defaults[name]) settings[name] = value; };
  if (choice.recipe !== view.defaults.recipe) settings.recipe = choice.recipe;
  if (choice.encoder !== view.defaults.encoder) settings.encoders = [view.names[choice.encoder]];
  differs("caption_input", choice.caption_input);
  differs("clip_input", choice.clip_input);
  differs("alpha", weights.P ? weights.alpha : 0);
  differs("lam", weights.N ? weights.lam : 0);
  const isAny = weights.answers === "any" && Boolean(evidenceOf(expression, choice));
  differs("answers", isAny ? "any" : "one");
  for (const name of isAny ? ["several_share", "least_evidence"] : []) differs(name, weights[name]);
  const soft = expression.scores.G && choice.recipe === view.choice.recipe;
  if (soft && !weights.rectifier) {
    for (const name of ["places_weight", "size_prior", "relation_weight"]) settings[name] = 0;
  }
  const given = Object.entries(settings).map(([name, value]) => `, ${name}=${python(value)}`);
  const call = `tasnb.segment(${view.code.image}, ${python(expression.text)}${given.join("")})`;
  if (weights.rectifier || soft) return call;
  if (!isAny) return `${call}.frame.nlargest(1, "S")  # without the rectifier`;
  const below = -view.temperature * Math.log(weights.several_share);
  const least = Number.isFinite(below) ? `f.S.max() - ${below}` : "f.S.min()";
  return `${call}.frame.pipe(lambda f: f[(f.S >= ${least}) & `
    + `(f.E[f.S.idxmax()] >= ${weights.least_evidence})])  # without the rectifier`;
}

function save(name, blob) {
  const link = make(null, "a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/**
 * The functions behind the buttons.
 *
 * @param now Returns what is shown: view, expression, choice, weights, result.
 * @param say Shows a line of text.
 */
function downloads(now, say) {
  async function copy() {
    const { view, expression, choice, weights } = now();
    const code = codeOf(view, expression, choice, weights);
    try {
      await navigator.clipboard.writeText(code);
      say(`Copied: ${code}`);
    } catch {
      say(code); // a page from disk or a frame may not use the clipboard
    }
  }

  function canvas() {
    const { view, result } = now();
    const { rle } = view.masks[result.order[0]];
    const [width, height] = rle ? rle.size.toReversed() : view.picture.size;
    return Object.assign(document.createElement("canvas"), { width, height });
  }

  /** The pixels inside the chosen masks, row by row; without run lengths, inside their outlines. */
  function inside(width, height) {
    const { view, result } = now(), found = new Uint8Array(width * height);
    const context = canvas().getContext("2d");
    for (const { rle, outline: d } of result.answer.map(k => view.masks[k])) {
      if (rle) {
        const pixels = pixelsOf(rle);
        found.forEach((value, at) => {
          found[at] = value | pixels[(at % width) * height + Math.floor(at / width)];
        });
      } else {
        context.clearRect(0, 0, width, height);
        context.fill(new Path2D(d), "evenodd");
        const { data } = context.getImageData(0, 0, width, height);
        found.forEach((value, at) => { found[at] = value | Number(data[4 * at + 3] > 127); });
      }
    }
    return found;
  }

  /** White lines between dark ones around each of several masks, as in pictures made by Python. */
  function outlineEach(context) {
    const { view, result } = now(), { width } = context.canvas;
    const thin = Math.max(1, Math.floor(width / 400)), scale = width / view.picture.size[0];
    const lines = result.answer.map(k => new Path2D(view.masks[k].outline));
    context.scale(scale, scale);
    for (const [colour, thick] of [["#111", thin + 2], ["#fff", thin]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: thick / scale });
      for (const line of lines) context.stroke(line);
    }
    context.resetTransform();
  }

  /** A band at the bottom that says that nothing fits, and why. */
  function label(context) {
    const { result, weights } = now();
    const numbers = toldApart(result.evidence[result.order[0]], weights.least_evidence);
    const text = `nothing here fits the expression (evidence ${numbers.join(" < ")})`;
    const { width, height } = context.canvas, most = Math.max(8, height / 14);
    context.font = `${most}px system-ui, sans-serif`;
    const size = most * Math.min(1, 0.92 * width / context.measureText(text).width);
    context.fillStyle = "#1c1c1e";
    context.fillRect(0, height - 2 * size, width, 2 * size);
    Object.assign(context, { font: `${size}px system-ui, sans-serif`, fillStyle: "#fff",
      textAlign: "center", textBaseline: "middle" });
    context.fillText(text, width / 2, height - size);
  }

  function paint(context, name, colour, add = () => {}) {
    const { width, height } = context.canvas;
    const image = context.getImageData(0, 0, width, height);
    inside(width, height).forEach((value, at) => colour(image.data, 4 * at, value));
    context.putImageData(image, 0, 0);
    add(context);
    context.canvas.toBlob(blob => save(`${fileName()}-${name}.png`, blob));
  }

  const fileName = () => now().expression.text.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)
    || "answer";

  function saveMask() {
    if (!now().result) return;
    paint(canvas().getContext("2d"), "mask", (data, at, inside) => {
      data.fill(255 * inside, at, at + 3);
      data[at + 3] = 255;
    });
  }

  function saveOverlay() {
    const { view, result } = now();
    if (!result) return;
    const context = canvas().getContext("2d"), image = new Image();
    const count = result.answer.length;
    image.onload = () => {
      if (!count) context.filter = "grayscale(1) brightness(0.55)";
      context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
      context.filter = "none";
      try {
        paint(context, "overlay", (data, at, inside) => {
          if (!inside) return;
          [25, 113, 194].forEach((value, k) => { data[at + k] = 0.45 * data[at + k] + 0.55 * value; });
        }, count === 0 ? label : count > 1 ? outlineEach : undefined);
      } catch {
        say("The browser does not allow reading this picture; use the mask instead.", true);
      }
    };
    image.src = view.picture.src;
  }

  function saveTable() {
    const { view, choice, result } = now();
    if (!result) return;
    const quoted = text => `"${String(text).replaceAll('"', '""')}"`;
    const { evidence, answer } = result, names = Object.keys(result.scores);
    const lines = [`rank,mask_id,${names},S,${evidence ? "E,kept,chosen" : "kept"},caption`];
    result.order.forEach((k, rank) => {
      const parts = names.map(name => result.scores[name][k]);
      const kept = evidence ? [evidence[k], result.kept[k], answer.includes(k)] : [result.kept[k]];
      lines.push([rank + 1, view.masks[k].id, ...parts, result.S[k], ...kept,
        quoted(captionOf(view, choice, k))].join(","));
    });
    save(`${fileName()}.csv`, new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
  }

  return { copy, saveMask, saveOverlay, saveTable };
}
