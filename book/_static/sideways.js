// What is wider than the page scrolls by itself (tables, formulas, code). Say so: a fade where more
// is to come (vae_nb.css), a name, and a place in the order of the Tab key for those without a
// pointer. The theme does a part of it, without a name and not for formulas.
(() => {
  const kinds = {
    "div.math": "Formula",
    ".pst-scrollable-table-container": "Table",
    ".cell .output.text_html": "Table",
    "div.highlight pre": "Code",
  };

  const fade = (box) => {
    const hidden = box.scrollWidth - box.clientWidth;
    box.classList.toggle("vae-more-left", hidden > 1 && box.scrollLeft > 1);
    box.classList.toggle("vae-more-right", hidden > 1 && box.scrollLeft < hidden - 1);
  };

  const look = (box, kind) => {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", `${kind}, scrolls sideways`);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
    fade(box);
  };

  addEventListener("load", () => {
    const sizes = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const box = target.closest("[data-vae-kind]");
        if (box) look(box, box.dataset.vaeKind);
      }
    });
    for (const [selector, kind] of Object.entries(kinds)) {
      for (const box of document.querySelectorAll(`.bd-article ${selector}`)) {
        box.dataset.vaeKind = kind;
        box.addEventListener("scroll", () => fade(box), { passive: true });
        sizes.observe(box); // the page's width, or what was hidden is shown
        for (const child of box.children) sizes.observe(child); // the formula has been typeset
      }
    }
  });
})();
