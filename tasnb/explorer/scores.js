// The arithmetic of the explorer: Eq. 5 and 6, the rectifier of section 3.4, and masks.

/** The scores of an expression for a choice of models and inputs, or null if they are not there. */
export function scoresOf(expression, choice) {
  const { V, P, N, C, G } = expression.scores;
  const seen = `${choice.encoder} ${choice.clip_input}`;
  const said = `${choice.encoder} ${choice.caption_input}`;
  if (!V[seen] || !P[said] || !N[seen]) return null;
  return { V: V[seen], P: P[said], N: N[seen], ...(C && { C: C[seen] }), ...(G && { G: G[seen] }) };
}

/** S with all that is added to it, and the masks from the best to the worst; ties go to the first. */
export function ranked(scores, inside, weights) {
  const alpha = weights.P ? weights.alpha : 0, lam = weights.N ? weights.lam : 0;
  const S = scores.V.map((v, k) => v + alpha * scores.P[k] + lam * scores.N[k]
    + (scores.C?.[k] ?? 0) + (weights.rectifier ? scores.G?.[k] ?? 0 : 0));
  const kept = weights.rectifier && inside.some(Boolean) ? inside : inside.map(() => true);
  const order = [...S.keys()].sort((a, b) => kept[b] - kept[a] || S[b] - S[a] || a - b);
  return { S, kept, order };
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}

const best = values => values.reduce((top, value, k) => (value > values[top] ? k : top), 0);

/** A mask from COCO's compressed run lengths: one byte per pixel, column by column. */
export function pixelsOf({ size: [height, width], counts }) {
  const pixels = new Uint8Array(height * width), runs = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, shift = 0, byte;
    do {
      byte = counts.charCodeAt(at++) - 48;
      value |= (byte & 31) << shift;
      shift += 5;
    } while (byte & 32);
    if (byte & 16) value |= -1 << shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  let at = 0;
  runs.forEach((run, k) => { pixels.fill(k % 2, at, at += run); });
  return pixels;
}
