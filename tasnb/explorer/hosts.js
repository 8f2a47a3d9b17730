// Where the explorer lives: in a notebook, or in a page that a server answers.

const PATIENCE = 10000; // milliseconds until a silent kernel is mentioned

/** Called by anywidget for every cell that shows the widget. */
function render({ model, el }) {
  let number = 0;
  const waiting = new Map();
  const answered = message => waiting.get(message.number)?.(message);
  model.on("msg:custom", answered);
  const ask = (wanted, buffers, progress) => new Promise(resolve => {
    const own = `${Math.random().toString(36).slice(2)}-${number++}`;
    const late = setTimeout(() => progress(0, 0, "The kernel has not answered yet. It is busy, or it "
      + "died; then restart it and run this cell again."), PATIENCE);
    waiting.set(own, answer => {
      clearTimeout(late);
      if (answer.progress) return progress(...answer.progress);
      waiting.delete(own);
      resolve(answer);
    });
    model.send({ ...wanted, number: own }, undefined, buffers);
  });
  const explorer = mount(el, model.get("view"), { ask });
  const changed = () => { if (!waiting.size) explorer.show(model.get("view")); }; // by another cell
  model.on("change:view", changed);
  return () => {
    model.off("msg:custom", answered);
    model.off("change:view", changed);
    explorer.close();
  };
}

/** An `ask` for a page that `python -m tasnb explore` serves. */
export function askServer(address) {
  return async (wanted, buffers, progress) => {
    const form = new FormData();
    form.append("asked", JSON.stringify(wanted));
    for (const buffer of buffers) form.append("picture", new Blob([buffer]), "picture");
    try {
      const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
      const response = await fetch(address,
        { method: "POST", body: form, headers: { "X-XSRFToken": xsrf } });
      if (!response.ok) return { error: `The explorer answered “${response.status}”: reload the page.` };
      const lines = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await lines.read();
        const found = (rest + (value ?? "")).split("\n");
        rest = found.pop();
        for (const answer of found.map(line => JSON.parse(line))) {
          if (!answer.progress) return answer;
          progress(...answer.progress);
        }
        if (done) throw new Error("no answer");
      }
    } catch {
      return { error: "The explorer is not running any more; start it again: python -m tasnb explore" };
    }
  };
}

export default { render };
