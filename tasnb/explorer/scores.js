// The arithmetic of the explorer: Eq. 5 and 6, the rectifier of section 3.4, and masks.

/** The scores of an expression for a choice of models and inputs, or null if they are not there. */
export function scoresOf(expression, choice) {
  const { V, P, N, C, G } = expression.scores;
  const seen = `${choice.encoder} ${choice.clip_input}`;
  const said = `${choice.encoder} ${choice.caption_input}`;
  if (!V[seen] || !P[said] || !N[seen]) return null;
  return { V: V[seen], P: P[said], N: N[seen], ...(C && { C: C[seen] }), ...(G && { G: G[seen] }) };
}

/** The evidence for each mask, whatever the others are, or null if it is not there. */
export const evidenceOf = ({ scores: { E } }, choice) =>
  E?.[`${choice.encoder} ${choice.clip_input} ${choice.caption_input}`] ?? null;

/** S with all that is added to it, and the masks from the best to the worst; ties go to the first. */
export function ranked(scores, inside, weights) {
  const alpha = weights.P ? weights.alpha : 0, lam = weights.N ? weights.lam : 0;
  const S = scores.V.map((v, k) => v + alpha * scores.P[k] + lam * scores.N[k]
    + (scores.C?.[k] ?? 0) + (weights.rectifier ? scores.G?.[k] ?? 0 : 0));
  const kept = weights.rectifier && inside.some(Boolean) ? inside : inside.map(() => true);
  const order = [...S.keys()].sort((a, b) => kept[b] - kept[a] || S[b] - S[a] || a - b);
  return { S, kept, order };
}

/** How likely each mask is by S, from 0 to 1 for the best; as `tasnb.method.answers` has it. */
export const likelihoods = ({ S, order }, temperature) =>
  S.map(one => Math.exp(Math.min(one - S[order[0]], 0) / temperature));

/** The masks of an answer, from the best: one, or by `weights.answers` any number, possibly none. */
export function answered({ kept, order }, likely, evidence, weights) {
  if (weights.answers !== "any" || !evidence || !order.length) return order.slice(0, 1);
  if (evidence[order[0]] < weights.least_evidence) return [];
  return order.filter(k => kept[k] && likely[k] >= weights.several_share);
}

/** Two numbers as text, with as many decimals as tell them apart, two or more. */
export function toldApart(value, limit) {
  let digits = 2;
  while (digits < 16 && value !== limit && value.toFixed(digits) === limit.toFixed(digits)) digits++;
  return [value, limit].map(one => one.toFixed(digits).replace("-", "−"));
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length / 2;
  return (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
}

const best = values => values.reduce((top, value, k) => (value > values[top] ? k : top), 0);

/** The lengths of the runs, outside and inside in turn, from COCO's compressed ones. */
function runsOf(counts) {
  const runs = [];
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
  return runs;
}

/** A mask from COCO's compressed run lengths: one byte per pixel, column by column. */
export function pixelsOf({ size: [height, width], counts }) {
  const pixels = new Uint8Array(height * width), runs = runsOf(counts);
  let at = 0;
  runs.forEach((run, k) => { pixels.fill(k % 2, at, at += run); });
  return pixels;
}

/** The stretches [from, to) that are inside some of the masks, in order and apart. */
function stretches(masks) {
  const all = [];
  for (const { counts } of masks) {
    let at = 0;
    runsOf(counts).forEach((run, k) => { if (k % 2 && run) all.push([at, at + run]); at += run; });
  }
  const found = [];
  for (const [from, to] of all.sort((a, b) => a[0] - b[0])) {
    const last = found.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else found.push([from, to]);
  }
  return found;
}

const areaOf = masks => stretches(masks).reduce((sum, [from, to]) => sum + to - from, 0);

/** IoU of the union of some masks with another mask, all as COCO's compressed run lengths. */
export function iouOf(masks, truth) {
  const both = areaOf([...masks, truth]);
  return both ? (areaOf(masks) + areaOf([truth]) - both) / both : 0;
}
