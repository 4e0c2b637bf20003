// The table of a run in a notebook. All text is set as text, whatever is in it.

// where the kernel is busy with the run itself, what it is sent waits for the run's end
const PATIENCE_MS = 1500;

// while a run does these, there is something to stop
const CAN_STOP = [
  "starting",
  "connecting",
  "waiting for workers",
  "sending the model",
  "compiling",
  "sampling",
];

function element(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function bar(row) {
  const cell = element("td", "cp-progress");
  const track = element("div", "cp-track");
  const done = element("div", row.diverging ? "cp-bad" : row.finished ? "cp-done" : "cp-under-way");
  done.style.width = `${100 * row.fraction}%`;
  track.append(done);
  cell.append(track);
  return cell;
}

function rows(table) {
  const grid = element("table", "cp-rows");
  const head = element("tr", "");
  head.append(...table.columns.map((name) => element("th", "", name)));
  grid.append(head);
  for (const row of table.rows) {
    const line = element("tr", "");
    line.append(bar(row), ...row.texts.map((text) => element("td", "", text)));
    grid.append(line);
  }
  return grid;
}

function webAddress(text) {
  return /^https?:\/\//.test(text) || text.startsWith("/");
}

// The dashboard needs no kernel to hear that the run should stop.
function askDashboard(link) {
  const page = new URL(link, window.location.href);
  const address = new URL(page.pathname + "/stop" + page.search, page);
  const body = new URLSearchParams(page.search);
  fetch(address, { method: "POST", mode: "no-cors", body }).catch(() => {});
}

function stop(model, button) {
  button.disabled = true;
  button.textContent = "Stopping…";
  model.send({ kind: "stop" });
  const link = model.get("link");
  if (webAddress(link)) askDashboard(link);
  setTimeout(() => {
    const kernel = model.widget_manager?.kernel;
    // later an interrupt would cost the draws
    if (!CAN_STOP.includes(model.get("table").phase) || !model.get("blocking")) return;
    if (kernel?.interrupt) kernel.interrupt();
    // what shows the page, as in marimo, may be the only one that can
    else button.textContent = "Interrupt the cell to stop";
  }, PATIENCE_MS);
}

function render({ model, el }) {
  const box = element("div", "cp-run");
  const text = element("div", "cp-lines");
  const below = element("div", "cp-grid");
  const buttons = element("div", "cp-buttons");
  const button = element("button", "cp-stop", "Stop");
  const link = element("a", "cp-link", "Dask dashboard");
  button.title = "End the chains and keep the draws they have made";
  button.onclick = () => stop(model, button);
  link.target = "_blank";
  link.rel = "noopener";
  buttons.append(button, link);
  box.append(text, below, buttons);
  el.append(box);

  function draw() {
    const table = model.get("table");
    if (!table.lines) return;
    const [first, ...others] = table.lines;
    text.replaceChildren(element("b", "", first), ...others.map((line) => element("div", "", line)));
    below.replaceChildren(...(table.rows.length ? [rows(table)] : []));
    const address = model.get("link");
    link.hidden = !webAddress(address);
    if (!link.hidden) link.href = address;
    buttons.hidden = table.ended;
    button.hidden = ![...CAN_STOP, "stopping"].includes(table.phase);
  }

  model.on("change:table", draw);
  model.on("change:link", draw);
  draw();
  return () => {
    model.off("change:table", draw);
    model.off("change:link", draw);
  };
}

export default { render };
