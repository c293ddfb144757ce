// Buttons, sliders and lists: each is labelled, reachable by keyboard, and changes nothing but the state.
const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));
const every = (selector) => [...document.querySelectorAll(selector)];

// Index of the number that is nearest to another one.
const nearest = (numbers, wanted) => numbers.reduce((best, value, i) => (Math.abs(value - wanted) < Math.abs(numbers[best] - wanted) ? i : best), 0);

// One picture per frame: the first one responds immediately, and a slider never waits for all of them.
const waiting = new Set(), visible = (element) => element.checkVisibility();
function soon(elements) {
  const idle = !waiting.size;
  elements.filter(visible).forEach((element) => waiting.add(element));
  if (idle && waiting.size) requestAnimationFrame(drawNext);
}

function drawNext() {
  const [element] = waiting;
  draw(element);
  waiting.delete(element);
  if (waiting.size) requestAnimationFrame(drawNext);
}

function legend() {
  const box = document.querySelector(".legend");
  if (!box) return;
  data.arms.forEach((arm, index) => {
    const button = document.createElement("button"), swatch = document.createElement("i"), count = document.createElement("small");
    const whole = finished(arm).length;
    swatch.className = "swatch " + arm.style;
    count.textContent = ` n = ${whole}`;
    button.type = "button";
    button.append(swatch, arm.change, count);
    press(button, true);
    button.disabled = index === 0;
    button.addEventListener("click", () => {
      const hide = !state.hidden.has(arm.name);
      state.hidden[hide ? "add" : "delete"](arm.name);
      press(button, !hide);
      soon(every("[data-panel], [data-cadence]"));
    });
    box.append(button);
  });
}

// A row of buttons of which one is pressed. set: what to do with the value of that one.
function choice(attribute, set) {
  const buttons = every(`[data-${attribute}]`), key = attribute.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
  for (const button of buttons) {
    button.addEventListener("click", () => {
      buttons.filter((other) => other.parentElement === button.parentElement).forEach((other) => press(other, other === button));
      set(button.dataset[key], button);
    });
  }
}

function toggle(button, set) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    press(button, on);
    set(on);
  });
}

function units() {
  const known = (unit) => unit === "steps" || data.arms.some((arm) => arm.runs.some((run) => run.x[unit] !== null));
  for (const button of every("[data-unit]")) button.hidden = !known(button.dataset.unit);
  choice("unit", (unit) => {
    state.unit = unit;
    soon(every("[data-panel], [data-cadence]"));
  });
  for (const button of every("[data-log-x]")) toggle(button, (on) => {
    state.logX = on;
    soon(every("[data-panel], [data-cadence]"));
  });
  for (const button of every("[data-log]")) toggle(button, (on) => {
    state.log[on ? "add" : "delete"](button.dataset.log);
    soon(every(`[data-panel="${button.dataset.log}"], [data-cadence]`));
  });
}

// The slider's positions: no smoothing, then ever longer stretches up to a fifth of the longest run.
function smoothing() {
  const slider = document.querySelector("#smoothing"), words = document.querySelector("#smoothing-words");
  if (!slider) return;
  const step = Math.min(...data.arms.map((arm) => arm.per_step)), whole = Math.max(...data.arms.map((arm) => arm.total));
  const positions = ladder(1, Math.max(2, Math.round(whole / step / 5))).map((count) => count * step);
  const show = () => {
    state.smoothing = positions[slider.value];
    words.textContent = Number(slider.value) === 0 ? "every step, unsmoothed" : `mean over ${state.smoothing.toLocaleString("en-US")} samples`;
    slider.setAttribute("aria-valuetext", words.textContent);
  };
  slider.max = positions.length - 1;
  slider.value = nearest(positions, data.window);
  show();
  slider.addEventListener("input", () => {
    show();
    soon(every('[data-panel="loss"], [data-panel="grad_norm"]'));
  });
}

// A slider and a number field for the same interval; what the record cannot show exactly goes to the nearest that it can.
function cadence(which) {
  const slider = document.querySelector(`#cadence-${which}`), field = document.querySelector(`#cadence-${which}-number`);
  if (!slider) return;
  const chosen = state.cadence[which], picture = document.querySelector(`[data-cadence="${which}"]`);
  const units = document.querySelector(`[data-cadence-unit="${which}"]`);
  const show = () => {
    const levels = levelsOf(which);
    chosen.level = Math.min(chosen.level, levels.length - 1);
    slider.max = levels.length - 1;
    slider.value = chosen.level;
    field.value = levels[chosen.level];
    units.textContent = chosen.spacing === "log" ? (which === "eval" ? "evaluations" : "rows") : "samples";
    slider.setAttribute("aria-valuetext", inWords(which, specOf(which)));
  };
  const set = (level) => {
    chosen.level = level;
    show();
    soon([picture]);
  };
  slider.addEventListener("input", () => set(Number(slider.value)));
  field.addEventListener("change", () => {
    const levels = levelsOf(which), typed = Number(field.value);
    set(Number.isFinite(typed) && typed > 0 ? nearest(levels, typed) : chosen.level);
  });
  if (data.start[which]) chosen.level = nearest(levelsOf(which), data.start[which]);
  choice(`spacing-${which}`, (spacing) => {
    chosen.spacing = spacing;
    set(spacing === "log" ? Math.min(8, levelsOf(which).length - 1) : 0);
  });
  show();
}

function cadences() {
  cadence("eval");
  cadence("log");
  choice("curve", (curve) => {
    state.cadence.log.curve = curve;
    soon(every('[data-cadence="log"]'));
  });
  choice("how", (how) => {
    state.cadence.log.how = how;
    soon(every('[data-cadence="log"]'));
  });
}
