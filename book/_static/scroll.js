/* A box whose content is wider than itself can be reached and moved by the keyboard, and says what it holds. */

(() => {
  "use strict";

  const BOXES = ".picture, figure .output, .cell_output > .output, .pst-scrollable-table-container, .math";

  function label(box) {
    const caption = box.closest("figure")?.querySelector(".caption-number");
    if (caption) return caption.textContent.trim();
    if (box.matches(".picture")) return "Figure";
    return box.matches(".math") ? "Formula" : box.querySelector("table") ? "Table" : "Output";
  }

  function update(box) {
    if (box.scrollWidth > box.clientWidth) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", `${label(box)}, scrolls sideways`);
    } else if (box.getAttribute("role") === "group") {
      box.removeAttribute("tabindex");
      box.removeAttribute("role");
      box.removeAttribute("aria-label");
    }
  }

  window.addEventListener("DOMContentLoaded", () => {
    const observer = new ResizeObserver((entries) => entries.forEach((entry) => update(entry.target)));
    document.querySelectorAll(`.bd-article :is(${BOXES})`).forEach((box) => observer.observe(box));
  });
})();
