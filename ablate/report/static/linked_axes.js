// Panels over the same horizontal axis are one picture: what is hovered, or zoomed, in one of them is so in the others.
function link(elements) {
  let busy = false;
  const others = (element) => elements.filter((other) => other !== element);
  for (const element of elements) {
    element.on("plotly_hover", (event) => {
      const at = event.xvals ? event.xvals[0] : event.points[0].x;
      for (const other of others(element)) Plotly.Fx.hover(other, { xval: at }, "xy", true);
    });
    element.on("plotly_unhover", () => others(element).forEach((other) => Plotly.Fx.unhover(other)));
    element.on("plotly_relayout", async (change) => {
      if (busy) return;
      const moved = Object.fromEntries(Object.entries(change).filter(([key]) => key.startsWith("xaxis.")));
      if (!Object.keys(moved).length) return;
      busy = true;
      await Promise.all(others(element).map((other) => Plotly.relayout(other, moved)));
      busy = false;
    });
  }
}
