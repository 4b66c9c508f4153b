// A button that takes files, one after the other; so does a drop anywhere on the page, and a pasted picture. Called again
// whenever the server has new data. A file goes in parts, one after the other's receipt, so that what is left of a long way can be told: larger ones
// while receipts come at once, smaller ones on a slow line.

const LEAST = 1 << 18; // bytes of a part
const MOST = 1 << 22; // image_drop.py takes no larger one
const QUICK = 500; // milliseconds until a receipt
const SLOW = 5000;
const NAME = 200; // letters of a file's name, its end
const PATIENCE = 30_000; // without a receipt, until somebody is told

export default function ({ parentElement, data, setTriggerValue }) {
  const root = parentElement.querySelector(".drop");
  const input = root.querySelector("input");
  const word = root.querySelector(".word");
  const done = root.querySelector(".done");
  const said = parentElement.querySelector(".said");
  const state = (root.state ??= { file: null, id: 0, at: 0, part: LEAST, since: 0, sent: 0, timer: 0, controller: null });
  state.rest ??= []; // files that wait
  state.problems ??= [];
  input.setAttribute("aria-label", data.label);
  root.querySelector(".help").textContent = data.help;

  const show = () => {
    const share = state.file ? state.at / state.file.size : 0;
    done.style.width = `${100 * share}%`;
    const more = state.rest.length ? ` (${state.rest.length} more)` : "";
    word.textContent = state.file ? `Sending: ${left(share, performance.now() - state.since)}${more}` : data.label;
  };
  const tell = (more = "") => (said.textContent = [...state.problems, more].join(" ").trim());
  const isFirst = () => {
    const { first } = state;
    state.first = false;
    return first;
  };
  const end = (words) => {
    clearTimeout(state.timer);
    Object.assign(state, { file: null, id: 0, at: 0 }); // a part that is still being read is not sent
    if (words) state.problems.push(words);
    tell();
    show();
    if (state.rest.length) take(state.rest.shift());
  };
  const send = async () => {
    const { id, at, file } = state;
    clearTimeout(state.timer);
    state.timer = setTimeout(() => tell("No confirmation for half a minute."), PATIENCE);
    state.sent = performance.now();
    const part = await base64(file.slice(at, at + state.part)).catch(() => null); // a file that was moved away
    if (state.id !== id) return;
    if (part === null) end("The file cannot be read.");
    else setTriggerValue("part", { id, at, total: file.size, name: file.name.slice(-NAME), first: isFirst(), data: part });
  };
  const take = (file) => {
    if (!file.size) return end(state.several ? `${file.name} is empty.` : "The file is empty.");
    Object.assign(state, { file, at: 0, id: Math.floor(Math.random() * 2 ** 48), part: LEAST, since: performance.now() });
    // of one that is too large there is a receipt, too
    const about = { id: state.id, size: file.size, name: file.name.slice(-NAME) };
    if (file.size > data.most) return setTriggerValue("big", { ...about, first: isFirst() });
    send();
    if (file.size > LEAST) show();
  };

  const takeAll = (files) => {
    state.several = files.length > 1;
    state.first = true;
    state.rest = [...files].slice(0, data.files);
    state.problems = files.length > data.files ? [`The first ${data.files} of ${files.length} files are taken.`] : [];
    tell();
    take(state.rest.shift());
  };

  const { id, size } = data.received;
  if (state.file && state.id === id && size > state.at) {
    state.at = size;
    tell();
    const took = performance.now() - state.sent;
    if (took < QUICK) state.part = Math.min(4 * state.part, MOST);
    else if (took > SLOW) state.part = Math.max(state.part / 4, LEAST);
    if (size < state.file.size) {
      show();
      send();
    } else end("");
  }
  if (!state.file) show();

  input.onchange = () => {
    if (input.files.length) takeAll(input.files);
    input.value = ""; // the same file may be chosen again
  };
  state.controller?.abort(); // the listeners of the call before
  const controller = (state.controller = new AbortController());
  const listen = (kind, heard) => document.addEventListener(kind, heard, { signal: controller.signal });
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  listen("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    root.classList.add("over");
  });
  listen("dragleave", (event) => event.relatedTarget || root.classList.remove("over"));
  listen("drop", (event) => {
    root.classList.remove("over");
    if (!hasFiles(event)) return;
    event.preventDefault(); // or the browser would leave the page for the file
    if (event.dataTransfer.files.length) takeAll(event.dataTransfer.files);
  });
  listen("paste", (event) => {
    const found = event.clipboardData; // with text, a picture is but its likeness: of a cell, of a paragraph
    if (found?.files.length && !found.types.includes("text/plain")) takeAll(found.files);
  });
  return () => {
    controller.abort();
    if (state.controller === controller) clearTimeout(state.timer); // else another call goes on with it
  };
}

function left(share, milliseconds) {
  const percent = `${Math.round(100 * share)} %`;
  return share ? `${percent}, ${Math.ceil(((1 - share) / share) * (milliseconds / 1000))} s left` : percent;
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
