"use strict";
const cards = [...document.querySelectorAll("figure")];
const place = new Map(cards.map((card, index) => [card, index]));
const controls = ["kind", "split", "order", "name"].map((id) => document.getElementById(id));
const orders = {
  "": (a, b) => place.get(a) - place.get(b),
  more: (a, b) => b.dataset.crack - a.dataset.crack,
  less: (a, b) => a.dataset.crack - b.dataset.crack,
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
};
let sorted = "";

function wanted(card, kind, split, name) {
  const kinds = card.dataset.kinds.split(" ").filter(Boolean);
  const fits = { "": true, any: kinds.length > 0, none: kinds.length === 0 }[kind] ?? kinds.includes(kind);
  return fits && (!split || card.dataset.split === split) && card.dataset.name.toLowerCase().includes(name);
}

function show() {
  const [kind, split, order, name] = controls.map((control) => control.value);
  if (order !== sorted) {
    document.querySelector("main").append(...[...cards].sort(orders[order]));
    sorted = order;
  }
  for (const card of cards) card.hidden = !wanted(card, kind, split, name.toLowerCase());
  document.getElementById("shown").value = `${cards.filter((card) => !card.hidden).length} shown`;
}

function reveal() {
  const card = document.getElementById(location.hash.slice(1));
  if (!card) return;
  card.hidden = false; // what a link leads to is shown whatever the filters say
  card.scrollIntoView({ block: "center" });
}

document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
for (const control of controls) control.addEventListener("input", show);
addEventListener("hashchange", reveal);
show();
reveal();
