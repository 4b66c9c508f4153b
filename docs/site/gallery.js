// Draws a figure when it comes near the window: its data stand in the script that follows its place.
{
  const near = new IntersectionObserver((entries) => entries.filter((one) => one.isIntersecting).forEach(({ target }) => {
    near.unobserve(target);
    const { data, layout } = JSON.parse(target.nextElementSibling.textContent);
    delete layout.width;
    Plotly.newPlot(target, data, layout, { displaylogo: false, responsive: true });
  }), { rootMargin: "800px" });
  document.querySelectorAll(".lcmae-figure").forEach((place) => near.observe(place));
}
