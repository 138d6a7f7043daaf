// A value and its place in the document light up together.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const of = (place) => document.querySelectorAll(`[data-place="${CSS.escape(place)}"]`);
  const light = (place, isOn) => { for (const one of of(place)) one.classList.toggle("lit", isOn); };
  for (const one of document.querySelectorAll("[data-place]")) {
    const place = one.dataset.place;
    one.addEventListener("mouseenter", () => light(place, true));
    one.addEventListener("mouseleave", () => light(place, false));
    one.addEventListener("focusin", () => light(place, true));
    one.addEventListener("focusout", () => light(place, false));
  }
  for (const link of document.querySelectorAll(".values-table a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault(); // the page stays, the markup moves
      const mark = document.querySelector(link.hash);
      const box = mark.closest("pre");
      for (const other of document.querySelectorAll("mark.chosen")) other.classList.remove("chosen");
      mark.classList.add("chosen");
      box.scrollTop += mark.getBoundingClientRect().top - box.getBoundingClientRect().top - box.clientHeight / 3;
      if (box.getBoundingClientRect().top < 0 || box.getBoundingClientRect().top > innerHeight * 0.8) mark.scrollIntoView({ block: "center" });
    });
  }
});
