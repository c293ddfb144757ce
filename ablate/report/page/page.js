// Draws the curves out of the JSON in the page. State: which unit lies on the horizontal axis, which arms are hidden,
// which panels have a logarithmic vertical axis. Every change redraws; there is nothing else to keep in step.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("curves-data").textContent);
  const state = { unit: "samples", hidden: new Set(), log: new Set(["grad_norm"]), onPaper: false };
  const paperWidth = 680;
  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const units = { loss: "nats", eval_loss: "nats", grad_norm: "L2 norm" };
  const levels = ["--v3", "--v5", "--v4", "--v6"];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faded = (hex, alpha) => hex + Math.round(255 * alpha).toString(16).padStart(2, "0");
  // Plotly reads a small HTML dialect in names; a name is only ever text here.
  const literal = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function xOf(curve, unit) {
    const held = curve.x[unit];
    return Array.isArray(held) ? held : curve.x.steps.map((step) => step * held);
  }

  function line(curve, unit, name, hex, width, extra) {
    return {
      type: "scatter", mode: "lines", x: xOf(curve, unit), y: curve.y, name: literal(name), connectgaps: false,
      line: { color: hex, width: width }, hovertemplate: "%{y:.4g} at %{x:,.4~g} " + unit, ...extra,
    };
  }

  // Seeds of every arm first, means above all of them, the baseline's on top.
  function panelTraces(panel) {
    const arms = data.arms.filter((arm) => !state.hidden.has(arm.name));
    const ordered = [...arms].reverse();
    const traces = [];
    for (const arm of ordered) {
      for (const run of arm.runs) {
        if (!run.panels[panel].y.length) continue;
        const thin = faded(color("--" + arm.style), arm.mean[panel] ? (panel === "grad_norm" ? 0.45 : 0.3) : 0.9);
        traces.push(line(run.panels[panel], state.unit, arm.name + ", seed " + run.seed, thin, 1, {}));
      }
    }
    for (const arm of ordered) {
      if (!arm.mean[panel]) continue;
      const marks = panel === "eval_loss" ? { mode: "lines+markers", marker: { size: 5 } } : {};
      const width = panel === "grad_norm" ? 1.7 : 2.2; // a bolder mean would cover the spikes that the panel is for
      if (arm.style === "placebo") marks.line = { color: color("--placebo"), width: width, dash: "dot" };
      traces.push(line(arm.mean[panel], state.unit, arm.name, color("--" + arm.style), width, marks));
    }
    return traces;
  }

  function layout(xTitle, yTitle, log) {
    const line = color("--line");
    const axis = { gridcolor: line, linecolor: line, zeroline: false, ticks: "", automargin: true };
    const title = (text) => ({ text: text, font: { size: 12, color: color("--soft") }, standoff: 8 });
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, hovermode: "closest",
      ...(state.onPaper ? { width: paperWidth } : { autosize: true }),
      margin: { l: 8, r: 10, t: 8, b: 8 }, dragmode: touch ? false : "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("--soft") },
      hoverlabel: { bgcolor: color("--paper"), bordercolor: color("--line"), font: { color: color("--ink") }, namelength: -1 },
      xaxis: { ...axis, title: title(xTitle), rangemode: "tozero", showgrid: false, tickformat: ",~r", hoverformat: ",~r" },
      yaxis: { ...axis, title: title(yTitle), type: log ? "log" : "linear", ...(log ? { dtick: "D2", tickformat: "~g" } : {}) },
    };
  }

  function drawPanel(element) {
    const panel = element.dataset.panel;
    const log = state.log.has(panel);
    return Plotly.react(element, panelTraces(panel), layout(state.unit, units[panel], log), config);
  }

  function drawReplay(element) {
    const replay = data.replays.find((item) => item.axis === element.dataset.replay);
    const baseline = color("--baseline");
    const traces = replay.runs.map((curve, seed) => line(curve, "samples", "dense, seed " + seed, faded(baseline, 0.25), 1, {}));
    if (replay.dense) traces.push(line(replay.dense, "samples", "dense, mean over seeds", faded(baseline, 0.9), 1.6, {}));
    replay.levels.forEach((level, place) => {
      const hex = color(levels[place % levels.length]);
      const shown = { x: { samples: level.samples, steps: level.steps }, y: level.y };
      traces.push(line(shown, "samples", "looked at every " + level.name, hex, 2.4,
        { mode: "lines+markers", marker: { size: 8, symbol: ["circle", "square", "diamond", "cross"][place % 4] } }));
    });
    return Plotly.react(element, traces, layout("samples", units[replay.panel], false), config);
  }

  function drawAll() {
    const panels = [...document.querySelectorAll("[data-panel]")].map(drawPanel);
    const replays = [...document.querySelectorAll("[data-replay]")].map(drawReplay);
    return Promise.all([...panels, ...replays]);
  }

  function press(button, pressed) {
    button.setAttribute("aria-pressed", String(pressed));
  }

  function legend() {
    const box = document.querySelector(".legend");
    data.arms.forEach((arm, place) => {
      const button = document.createElement("button");
      const swatch = document.createElement("i");
      swatch.className = "swatch " + arm.style;
      button.type = "button";
      button.append(swatch, arm.change);
      press(button, true);
      button.disabled = place === 0; // the baseline is what every other arm is compared with: always there
      button.addEventListener("click", () => {
        const hide = !state.hidden.has(arm.name);
        state.hidden[hide ? "add" : "delete"](arm.name);
        press(button, !hide);
        drawAll();
      });
      box.append(button);
    });
  }

  function switches() {
    const buttons = [...document.querySelectorAll("[data-unit]")];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        state.unit = button.dataset.unit;
        buttons.forEach((other) => press(other, other === button));
        drawAll();
      });
    }
    for (const button of document.querySelectorAll("[data-log]")) {
      button.addEventListener("click", () => {
        const on = !state.log.has(button.dataset.log);
        state.log[on ? "add" : "delete"](button.dataset.log);
        press(button, on);
        drawAll();
      });
    }
  }

  legend();
  switches();
  drawAll().then(() => document.documentElement.setAttribute("data-drawn", "true"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  window.matchMedia("print").addEventListener("change", (print) => {
    state.onPaper = print.matches;
    drawAll();
  });
})();
