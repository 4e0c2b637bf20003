// Shows the trait `state`, which is JSON (see html.py), and sends the word that asks to stop.
// Names reach the page as textContent only.

const PATIENCE_MS = 3000;

function element(parent, tag, name) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  parent.append(made);
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function addRow(body) {
  const row = element(body, "tr");
  const chain = element(row, "td");
  const progress = element(row, "td");
  const bar = element(progress, "span", "cp-bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemax", "1000");
  return { row, bar, drawn: element(bar, "span"), texts: [chain, element(progress, "span", "cp-phase")] };
}

function fillRow(parts, [look, thousandths, ...texts]) {
  if (parts.row.className !== look) parts.row.className = look;
  parts.drawn.style.width = `${thousandths / 10}%`;
  parts.bar.setAttribute("aria-valuenow", String(thousandths));
  texts.forEach((text, number) => {
    parts.texts[number] ??= element(parts.row, "td");
    say(parts.texts[number], text);
    if (number > 1) parts.texts[number].title = text;
  });
}

function render({ model, el }) {
  const run = element(el, "div", "cloudposterior-run cp");
  const head = element(run, "div", "cp-head");
  const title = element(head, "div", "cp-title");
  const actions = element(head, "div", "cp-actions");
  const link = element(actions, "a");
  link.textContent = "Dashboard";
  link.target = "_blank";
  link.rel = "noopener";
  const stop = element(actions, "button");
  stop.type = "button";
  const lines = element(run, "div");
  const note = element(run, "div", "cp-line cp-note");
  note.setAttribute("role", "status");
  note.hidden = true;
  const rows = element(run, "div", "cp-rows");
  const table = element(rows, "table");
  const columns = element(element(table, "thead"), "tr");
  for (const column of model.get("columns")) element(columns, "th").textContent = column;
  const body = element(table, "tbody");
  const shown = [];
  let asked = false;
  let patience = null;

  function unanswered() {
    asked = false;
    note.textContent = model.get("interrupt");
    note.hidden = false;
    show();
  }

  stop.addEventListener("click", () => {
    asked = true;
    note.hidden = true;
    model.send({ stop: model.get("word") });
    clearTimeout(patience);
    patience = setTimeout(unanswered, PATIENCE_MS);
    show();
  });

  function show() {
    const state = JSON.parse(model.get("state"));
    if (state.stopping || state.ended) {
      clearTimeout(patience);
      note.hidden = true;
    }
    const [first, ...others] = state.lines;
    say(title, first);
    while (lines.children.length > others.length) lines.lastChild.remove();
    others.forEach((line, number) => {
      say(lines.children[number] ?? element(lines, "div", "cp-line"), line);
    });
    link.hidden = !state.dashboard;
    if (state.dashboard) link.href = state.dashboard;
    stop.hidden = state.ended;
    stop.disabled = asked || state.stopping;
    say(stop, stop.disabled ? "Stopping…" : "Stop");
    rows.hidden = state.rows.length === 0;
    while (shown.length > state.rows.length) shown.pop().row.remove();
    state.rows.forEach((row, number) => {
      shown[number] ??= addRow(body);
      fillRow(shown[number], row);
    });
  }

  model.on("change:state", show);
  show();
  return () => {
    clearTimeout(patience);
    model.off("change:state", show);
  };
}

export default { render };
