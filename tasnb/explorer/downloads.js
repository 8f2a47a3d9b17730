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
  const soft = expression.scores.G && choice.recipe === view.choice.recipe;
  if (soft && !weights.rectifier) {
    for (const name of ["places_weight", "size_prior", "relation_weight"]) settings[name] = 0;
  }
  const given = Object.entries(settings).map(([name, value]) => `, ${name}=${python(value)}`);
  const call = `tasnb.segment(${view.code.image}, ${python(expression.text)}${given.join("")})`;
  return weights.rectifier || soft ? call : `${call}.frame.nlargest(1, "S")  # without the rectifier`;
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

  /** The pixels inside the chosen mask, row by row; without run lengths, inside its outline. */
  function inside(width, height) {
    const { view, result } = now();
    const { rle, outline: d } = view.masks[result.order[0]], found = new Uint8Array(width * height);
    if (rle) {
      const pixels = pixelsOf(rle);
      return found.map((_, at) => pixels[(at % width) * height + Math.floor(at / width)]);
    }
    const context = canvas().getContext("2d");
    context.fill(new Path2D(d), "evenodd");
    const { data } = context.getImageData(0, 0, width, height);
    return found.map((_, at) => Number(data[4 * at + 3] > 127));
  }

  function paint(context, name, colour) {
    const { width, height } = context.canvas;
    const image = context.getImageData(0, 0, width, height);
    inside(width, height).forEach((value, at) => colour(image.data, 4 * at, value));
    context.putImageData(image, 0, 0);
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
    image.onload = () => {
      context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
      try {
        paint(context, "overlay", (data, at, inside) => {
          if (!inside) return;
          [25, 113, 194].forEach((value, k) => { data[at + k] = 0.45 * data[at + k] + 0.55 * value; });
        });
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
    const names = Object.keys(result.scores);
    const lines = [`rank,mask_id,${names},S,kept,caption`];
    result.order.forEach((k, rank) => {
      const parts = names.map(name => result.scores[name][k]);
      lines.push([rank + 1, view.masks[k].id, ...parts, result.S[k], result.kept[k],
        quoted(captionOf(view, choice, k))].join(","));
    });
    save(`${fileName()}.csv`, new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
  }

  return { copy, saveMask, saveOverlay, saveTable };
}
