// Paper is white, and nothing can be unfolded on it: print in the light theme, tests of claims open.
(() => {
  const page = document.documentElement;
  let shown;
  let folded;
  addEventListener("beforeprint", () => {
    shown = page.dataset.theme;
    page.dataset.theme = "light";
    folded = document.querySelectorAll(".vae-claims details:not([open])");
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => {
    page.dataset.theme = shown;
    for (const each of folded) each.open = false;
  });
})();
