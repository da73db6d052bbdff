"use strict";
document.documentElement.classList.add("js");

// Tables: a click on a column's name sorts by it, a second one the other way; rows without a value stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = row => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const numeric = [...table.tBodies[0].rows].every(row => "sort" in row.cells[column].dataset || value(row) === "");
    const rows = [...table.tBodies[0].rows].sort((first, second) => {
      const [a, b] = [value(first), value(second)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return (numeric ? a - b : a.localeCompare(b)) * (down ? -1 : 1);
    });
    table.tBodies[0].append(...rows);
  }));
}

// Contents: mark the section in view.
const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.hash.slice(1), link]));
const watch = new IntersectionObserver(seen => seen.forEach(entry => {
  if (entry.isIntersecting) links.forEach((link, key) => link.classList.toggle("here", key === entry.target.id));
}), { rootMargin: "-20% 0px -75% 0px" });
document.querySelectorAll("main > section").forEach(section => watch.observe(section));

// Stacks of slices: slider, curves and strip choose; the chosen slice is drawn large. Drawn when first shown.
async function prepare(figure) {
  if (figure.dataset.ready) return;
  figure.dataset.ready = "yes";
  const [sheet, slider] = [figure.querySelector(".sheet"), figure.querySelector("input")];
  const [across, down, count] = ["across", "down", "count"].map(name => Number(figure.dataset[name]));
  await sheet.decode();
  const [width, height] = [sheet.naturalWidth / across, sheet.naturalHeight / down];
  const paint = (canvas, place, scale) => {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.getContext("2d").drawImage(sheet, place % across * width, Math.floor(place / across) * height, width, height,
      0, 0, canvas.width, canvas.height);
  };
  const buttons = [...figure.querySelectorAll(".strip button")];
  buttons.forEach((button, place) => paint(button.firstElementChild, place, Math.min(1, 92 / height)));
  const style = getComputedStyle(figure);
  const [left, right] = ["--left", "--right"].map(name => parseFloat(style.getPropertyValue(name)) / 100);
  const choose = place => {
    place = Math.max(0, Math.min(count - 1, place));
    slider.value = place;
    paint(figure.querySelector(".large canvas"), place, 1);
    figure.querySelector(".says").textContent = buttons[place].title;
    buttons.forEach((button, own) => button.classList.toggle("chosen", own === place));
    figure.querySelector(".cursor").style.left = `${100 * (left + (right - left) * (place + 0.5) / count)}%`;
  };
  slider.addEventListener("input", () => choose(Number(slider.value)));
  buttons.forEach((button, place) => button.addEventListener("click", () => choose(place)));
  figure.querySelector(".chart").addEventListener("click", event => {
    const box = event.currentTarget.getBoundingClientRect();
    choose(Math.floor(((event.clientX - box.left) / box.width - left) / (right - left) * count));
  });
  figure.addEventListener("keydown", event => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step) { event.preventDefault(); choose(Number(slider.value) + step); }
  });
  choose(Number(figure.dataset.start));
}

// Cases: one at a time of those that fit the filter; arrows turn the pages.
const browser = document.querySelector("#browser");
if (browser) {
  const cases = [...browser.querySelectorAll(".case")];
  const form = browser.querySelector(".filters");
  const least = form.elements.loss;
  const losses = cases.map(one => Number(one.dataset.loss));
  least.max = Math.max(...losses, 0);
  least.step = least.max / 100 || 1;
  let fitting = cases, place = 0;
  const show = next => {
    place = fitting.length ? (next + fitting.length) % fitting.length : 0;
    cases.forEach(one => one.classList.toggle("shown", one === fitting[place]));
    form.querySelector(".place").textContent = fitting.length ? `${place + 1} of ${fitting.length}` : "0 of 0";
    browser.querySelector(".none").hidden = fitting.length > 0;
    fitting[place]?.querySelectorAll(".slices").forEach(figure => prepare(figure));
  };
  const filter = () => {
    const wanted = name => form.elements[name].value;
    const fits = (one, name) => !wanted(name) || one.dataset[name].split("|").includes(wanted(name));
    fitting = cases.filter(one => ["why", "label", "fold"].every(name => fits(one, name)) && one.dataset.loss >= Number(least.value));
    least.nextElementSibling.textContent = Number(least.value).toPrecision(2);
    show(0);
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.querySelector(".back").addEventListener("click", () => show(place - 1));
  form.querySelector(".next").addEventListener("click", () => show(place + 1));
  document.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const typing = event.target.matches("select, input");
    if (step && !typing && !event.altKey && !event.ctrlKey && !event.metaKey) { event.preventDefault(); show(place + step); }
  });
  filter();
}
document.querySelectorAll("main .slices").forEach(figure => figure.closest(".case") ?? prepare(figure));
