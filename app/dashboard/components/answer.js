// A sentence and its headline numbers as plain text. Called again whenever the server has new data.

export default function ({ parentElement, data }) {
  parentElement.querySelector(".sentence").textContent = data.sentence;
  parentElement.querySelector("dl").replaceChildren(...data.tiles.map(tile));
}

function tile({ label, quantity, value, interval, baseline }) {
  const made = document.createElement("div");
  made.className = "tile";
  made.append(
    part("dt", "label", label),
    part("dd", "quantity", quantity),
    part("dd", "value", value),
    part("dd", "interval", interval && `95 %: ${interval}`),
    part("dd", "baseline", baseline),
  );
  return made;
}

function part(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}
