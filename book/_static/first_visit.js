/* A first visit has no theme stored: the system's is set at once, before the page is drawn and the theme's script complains. */

(() => {
  "use strict";

  const page = document.documentElement.dataset;
  page.mode ||= "auto";
  page.theme ||= window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
})();
