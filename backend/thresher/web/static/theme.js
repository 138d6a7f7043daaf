// Light, dark, or as the system: before the page is drawn, so that nothing flashes.
(() => {
  const ORDER = ["auto", "light", "dark"];
  const WORDS = { auto: "as the system", light: "light", dark: "dark" };
  const read = () => {
    try { return localStorage.getItem("thresher-theme") || "auto"; } catch { return "auto"; }
  };
  const apply = (theme) => { document.documentElement.dataset.theme = ORDER.includes(theme) ? theme : "auto"; };
  apply(read());
  document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      const name = () => button.setAttribute("aria-label", `Colours: ${WORDS[document.documentElement.dataset.theme]}`);
      button.hidden = false;
      name();
      button.addEventListener("click", () => {
        const following = ORDER[(ORDER.indexOf(document.documentElement.dataset.theme) + 1) % ORDER.length];
        try { localStorage.setItem("thresher-theme", following); } catch { /* it is forgotten with the page */ }
        apply(following);
        name();
        document.dispatchEvent(new Event("thresher:theme"));
      });
    }
  });
})();
