// A table of words and numbers as plain text. Called again whenever the server has new data.

export default function ({ parentElement, data }) {
  parentElement.querySelector(".title").textContent = data.title;
  parentElement.querySelector(".caption").textContent = data.caption;
  const [head, body] = ["thead", "tbody"].map((tag) => parentElement.querySelector(tag));
  head.replaceChildren(row("th", data.columns));
  body.replaceChildren(...data.rows.map((values) => row("td", values)));
}

function row(tag, values) {
  const made = document.createElement("tr");
  made.append(...values.map((value) => cell(tag, value)));
  return made;
}

function cell(tag, value) {
  const made = document.createElement(tag);
  const isNumber = typeof value === "number";
  made.textContent = isNumber ? String(Number(value.toPrecision(4))) : (value ?? "–");
  if (tag === "th") made.scope = "col";
  if (isNumber) made.title = String(value); // every digit of it
  if (isNumber || value === null) made.className = "number";
  return made;
}
