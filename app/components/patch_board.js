// One image in several pictures or maps: the same patch is marked in all of them, a click or an arrow key moves it, and in edit
// mode a click, Space or Enter turns a patch from hidden to visible and back. Called again whenever the server has new data.

const SVG = "http://www.w3.org/2000/svg";
const PATIENCE = 1500; // milliseconds for which the cursor stays where the person put it, while the server is on its way

export default function ({ parentElement, data, setTriggerValue }) {
  const board = parentElement.querySelector("[role=application]");
  const said = parentElement.querySelector(".said");
  const state = (board.state ??= { wanted: null, since: 0, timer: 0 });
  if (state.wanted === data.patch || performance.now() - state.since > PATIENCE) state.wanted = null;
  const here = () => state.wanted ?? data.patch;

  const { rows, columns } = data;
  const place = (patch) => [patch % columns, Math.floor(patch / columns)];
  const tell = (patch) => {
    const [column, row] = place(patch);
    said.textContent = `Row ${row + 1}, column ${column + 1}: ${data.words[patch] ?? ""}`;
  };

  for (const name of ["title", "caption"]) parentElement.querySelector(`.${name}`).textContent = data[name] ?? "";
  choices(parentElement.querySelector(".choices"), data.choices ?? [], setTriggerValue);
  board.classList.toggle("editing", data.editing);
  const keys = data.editing ? "arrow keys move, Space hides or shows the patch" : "arrow keys move to another patch";
  board.setAttribute("aria-label", `${data.panels.length} ${data.kind} of ${rows} by ${columns} patches; ${keys}`);
  draw(board, data);
  legend(parentElement.querySelector(".shared.scale"), data.scale, data.gradient);
  mark(board, "cursor", here(), place);
  mark(board, "hover", null, place);
  tell(here());

  const go = (patch, delay) => {
    Object.assign(state, { wanted: patch, since: performance.now() });
    mark(board, "cursor", patch, place);
    tell(patch);
    clearTimeout(state.timer);
    // a key that is held down asks the server for the last patch alone
    state.timer = setTimeout(() => setTriggerValue("pick", patch), delay);
  };
  const under = (event) => {
    const frame = event.target.closest?.(".frame");
    if (!frame) return null;
    const box = frame.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    return Math.min(Math.max(row, 0), rows - 1) * columns + Math.min(Math.max(column, 0), columns - 1);
  };

  board.onpointermove = (event) => {
    const patch = under(event);
    mark(board, "hover", patch, place);
    tell(patch ?? here());
  };
  board.onpointerleave = () => {
    mark(board, "hover", null, place);
    tell(here());
  };
  board.onclick = (event) => {
    const patch = under(event);
    if (patch === null) return;
    if (data.editing) setTriggerValue("toggle", patch);
    else go(patch, 0);
  };
  board.onkeydown = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    let [column, row] = place(here());
    const moves = {
      ArrowLeft: () => (column = Math.max(column - 1, 0)),
      ArrowRight: () => (column = Math.min(column + 1, columns - 1)),
      ArrowUp: () => (row = Math.max(row - 1, 0)),
      ArrowDown: () => (row = Math.min(row + 1, rows - 1)),
      Home: () => (column = 0),
      End: () => (column = columns - 1),
    };
    if (event.key in moves) {
      moves[event.key]();
      const patch = row * columns + column;
      if (patch !== here()) go(patch, event.repeat ? 120 : 0);
    } else if (data.editing && (event.key === " " || event.key === "Enter")) {
      setTriggerValue("toggle", here());
    } else {
      return;
    }
    event.preventDefault(); // the page does not scroll, and Streamlit has no shortcut there
    event.stopPropagation();
  };
}

// Pictures are made once and then changed in place, so nothing flickers and the focus stays.
function draw(board, data) {
  while (board.children.length > data.panels.length) board.lastChild.remove();
  data.panels.forEach((panel, number) => {
    const figure = board.children[number] ?? board.appendChild(empty());
    const [caption, frame, scale] = figure.children;
    const [image, svg] = frame.children;
    caption.textContent = caption.title = panel.title;
    if (image.src !== panel.source) image.src = panel.source;
    image.alt = panel.alt;
    svg.setAttribute("viewBox", `0 0 ${data.columns} ${data.rows}`);
    const [veil, hatch, grid, disc] = svg.children;
    const hidden = data.hidden.flatMap((is, patch) =>
      is ? [[patch % data.columns, Math.floor(patch / data.columns)]] : [],
    );
    const solid = panel.veil === "solid";
    veil.setAttribute("d", solid ? hidden.map(([x, y]) => `M${x} ${y}h1v1h-1z`).join("") : "");
    hatch.setAttribute("d", solid ? hidden.map(([x, y]) => `M${x} ${y + 1}L${x + 1} ${y}`).join("") : "");
    const upright = Array.from({ length: data.columns - 1 }, (_, x) => `M${x + 1} 0V${data.rows}`);
    const across = Array.from({ length: data.rows - 1 }, (_, y) => `M0 ${y + 1}H${data.columns}`);
    grid.setAttribute("d", data.lines ? [...upright, ...across].join("") : "");
    disc.style.display = panel.disc ? "" : "none";
    ["cx", "cy", "rx", "ry"].forEach((name, at) => disc.setAttribute(name, panel.disc?.[at] ?? 0));
    legend(scale, panel.scale, data.gradient);
  });
}

// Lists to pick from, made once, so that the focus stays.
function choices(row, wanted, setTriggerValue) {
  while (row.children.length > wanted.length) row.lastChild.remove();
  wanted.forEach(({ name, label, options, value }, number) => {
    if (!row.children[number]) {
      const made = row.appendChild(document.createElement("label"));
      made.append(document.createElement("span"), document.createElement("select"));
    }
    const [span, select] = row.children[number].children;
    span.textContent = label;
    if (select.dataset.options !== options.join()) select.replaceChildren(...options.map((option) => new Option(option)));
    select.dataset.options = options.join();
    select.value = value;
    select.onchange = () => setTriggerValue("choose", [name, select.value]);
    select.onkeydown = (event) => event.stopPropagation(); // Streamlit has letters as shortcuts
  });
}

// What the colours of a map mean: their ends and their unit, as plain text.
function legend(scale, ends, gradient) {
  scale.style.display = ends ? "" : "none";
  if (!ends) return;
  if (!scale.children.length) scale.append(...["span", "i", "span", "b"].map((tag) => document.createElement(tag)));
  const [low, bar, high, unit] = scale.children;
  [low.textContent, high.textContent, unit.textContent] = ends;
  unit.title = ends[2];
  bar.style.background = `linear-gradient(to right, ${gradient})`;
}

function empty() {
  const figure = document.createElement("figure");
  const frame = document.createElement("div");
  frame.className = "frame";
  const image = document.createElement("img");
  image.draggable = false;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["veil solid", "hatch", "grid"]) svg.appendChild(shape("path", name));
  svg.appendChild(shape("ellipse", "disc"));
  for (const name of ["cursor outer", "cursor inner", "hover"]) svg.appendChild(shape("rect", name));
  frame.append(image, svg);
  const scale = document.createElement("div");
  scale.className = "scale";
  figure.append(document.createElement("figcaption"), frame, scale);
  return figure;
}

function shape(tag, name) {
  const made = document.createElementNS(SVG, tag);
  made.setAttribute("class", name);
  if (tag === "rect") {
    made.setAttribute("width", 1);
    made.setAttribute("height", 1);
  }
  return made;
}

function mark(board, name, patch, place) {
  for (const rect of board.querySelectorAll(`.${name}`)) {
    rect.style.display = patch === null ? "none" : "";
    if (patch === null) continue;
    const [x, y] = place(patch);
    rect.setAttribute("x", x);
    rect.setAttribute("y", y);
  }
}
