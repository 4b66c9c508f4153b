// Buttons that only a browser can serve: the figure above as a picture, and the address of the present view.
// Called again whenever Streamlit draws the page, so it builds its row from nothing each time.

export default function ({ parentElement, data }) {
  const row = parentElement.querySelector(".row");
  const said = parentElement.querySelector("output");
  const say = (words) => (said.textContent = words);
  const button = (label, title, click) => {
    const made = document.createElement("button");
    Object.assign(made, { type: "button", textContent: label, title });
    made.setAttribute("aria-label", label); // without the arrow that the style puts before it
    made.onclick = async () => {
      try {
        say("");
        await click();
      } catch (error) {
        console.warn("lcmae:", error);
        say(data.otherwise);
      }
    };
    return made;
  };
  if (data.figure) {
    row.replaceChildren(
      button("PNG", "this figure as a PNG picture, two dots to a pixel", () => picture(data, "png")),
      button("SVG", "this figure as an SVG drawing, for print", () => picture(data, "svg")),
    );
  } else {
    const field = Object.assign(document.createElement("input"), { readOnly: true, hidden: true });
    field.setAttribute("aria-label", "address of this view");
    row.replaceChildren(
      button("Copy link to this view", "the full address, for a colleague or a notebook", async () => {
        field.value = address(data.query);
        field.hidden = false;
        field.select();
        await navigator.clipboard.writeText(field.value); // refused on plain http from another machine: then by hand
        say("copied");
      }),
      field,
    );
  }
}

// The figure on paper: the data that is drawn above, in the house's own light template whatever the page's theme is.
// Plotly's `downloadImage` is reached through the figure's own camera: Streamlit keeps its Plotly to itself.
function picture({ figure, layout, name }, format) {
  const drawn = document.querySelector(`.st-key-${figure.replace(/[^a-zA-Z0-9_-]/g, "-")} .js-plotly-plot`);
  const camera = drawn._fullLayout._modeBar.buttons.flat().find((found) => found.name === "toImage");
  const { width, height } = drawn.getBoundingClientRect();
  const toImageButtonOptions = { format, filename: name, width, height, scale: format === "png" ? 2 : 1 };
  return camera.click({ data: drawn.data, layout, config: {}, _context: { ...drawn._context, toImageButtonOptions } });
}

function address(query) {
  const found = new URL(window.location.href);
  for (const [name, value] of Object.entries(query)) found.searchParams.set(name, value);
  return found.href;
}
