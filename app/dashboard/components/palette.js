// Finds among entries that the server gave; Ctrl-K (or Cmd-K) opens it on every page. Called again whenever the server has new
// data. What is found is drawn as plain text.

const MOST = 12;

export default function ({ parentElement, data, setTriggerValue }) {
  const dialog = parentElement.querySelector("dialog");
  const input = parentElement.querySelector("input");
  const list = parentElement.querySelector("ul");
  const none = parentElement.querySelector(".none");
  const button = parentElement.querySelector(".open");
  const state = (dialog.state ??= { found: [], at: 0, controller: null });

  const find = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const scored = data.entries
      .map((entry, number) => ({ entry, number, score: score(entry, words) }))
      .filter((one) => one.score < Infinity);
    scored.sort((one, other) => one.score - other.score || one.number - other.number);
    Object.assign(state, { found: scored.slice(0, MOST), at: 0 });
    none.textContent = state.found.length ? "" : "Nothing with that name.";
    draw();
  };
  const draw = () => {
    const items = state.found.map(({ entry }, at) => {
      const item = document.createElement("li");
      Object.assign(item, { id: `found-${at}`, role: "option" });
      item.setAttribute("aria-selected", at === state.at);
      for (const [name, text] of [["kind", entry.kind], ["name", entry.name], ["hint", entry.hint]]) {
        item.append(Object.assign(document.createElement("span"), { className: name, textContent: text }));
      }
      item.onmousemove = () => at !== state.at && move(at);
      item.onclick = () => choose(at);
      return item;
    });
    list.replaceChildren(...items);
    input.setAttribute("aria-activedescendant", items.length ? `found-${state.at}` : "");
  };
  const move = (at) => {
    list.children[state.at]?.setAttribute("aria-selected", "false");
    state.at = at;
    list.children[at]?.setAttribute("aria-selected", "true");
    list.children[at]?.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", `found-${at}`);
  };
  const choose = (at) => {
    const chosen = state.found[at];
    if (!chosen) return;
    dialog.close();
    setTriggerValue("chosen", chosen.number);
  };
  const open = () => {
    if (dialog.open) return dialog.close();
    input.value = "";
    find();
    dialog.showModal();
    input.focus();
  };

  // the bar covers what is scrolled below it; only a component knows the theme's colour
  const bar = parentElement.ownerDocument?.querySelector(".st-key-bar") ?? document.querySelector(".st-key-bar");
  if (bar) bar.style.background = getComputedStyle(button).getPropertyValue("--st-background-color");

  button.onclick = open;
  input.oninput = find;
  input.onkeydown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && state.found.length) {
      event.preventDefault();
      move((state.at + step + state.found.length) % state.found.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      choose(state.at);
    }
    if (!(event.ctrlKey || event.metaKey)) event.stopPropagation(); // letters are no shortcuts of the page here
  };
  dialog.onclick = (event) => event.target === dialog && dialog.close(); // beside it
  if (dialog.open) find();

  state.controller?.abort(); // the listener of the call before
  const controller = (state.controller = new AbortController());
  const hear = (event) => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    open();
  };
  document.addEventListener("keydown", hear, { signal: controller.signal, capture: true });
  return () => controller.abort();
}

// how well an entry fits: less is better; the beginning of a name before the beginning of a word before the rest
function score(entry, words) {
  const name = entry.name.toLowerCase();
  const hint = entry.hint.toLowerCase();
  let total = { page: 0, run: 1, word: 2 }[entry.kind] / 10;
  for (const word of words) {
    const at = name.indexOf(word);
    if (at === 0) total += 0;
    else if (at > 0) total += /[\s/_-]/.test(name[at - 1]) ? 1 : 2;
    else if (hint.includes(word) || entry.kind === word) total += 4;
    else return Infinity;
  }
  return total;
}
