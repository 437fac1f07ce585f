// Think first: a reader, or a class, may fold all answers until they are asked for. The page
// remembers it. On paper, and without JavaScript, answers are there.
(() => {
  const KEY = "vae-answers";
  const page = document.documentElement;
  const remembered = () => {
    try {
      return localStorage.getItem(KEY) === "hidden";
    } catch {
      return false; // a page that may keep nothing
    }
  };
  const remember = (hidden) => {
    try {
      localStorage.setItem(KEY, hidden ? "hidden" : "shown");
    } catch {
      // It holds for this page alone.
    }
  };

  function button(text, pressed) {
    const created = document.createElement("button");
    created.type = "button";
    created.className = "vae-think";
    created.textContent = text;
    created.addEventListener("click", pressed);
    return created;
  }

  function start() {
    const folded = ":is(.tag_answer, .tag_measured)"; // answers, and figures to be drawn first
    const answers = [...document.querySelectorAll(`.cell${folded} > .cell_output`)];
    const titles = document.querySelectorAll(".admonition > .admonition-title");
    const boxes = [...titles].filter((title) => title.textContent.trim() === "Think first");
    if (!answers.length || !boxes.length) return;
    const switches = boxes.map((title) => {
      const created = button("", () => set(!page.classList.contains("vae-answers-hidden")));
      title.parentElement.append(created);
      return created;
    });
    for (const answer of answers) {
      const ask = button("Show the answer", () => answer.classList.add("is-asked"));
      ask.classList.add("vae-ask");
      answer.before(ask);
    }

    function set(hidden) {
      page.classList.toggle("vae-answers-hidden", hidden);
      for (const answer of answers) answer.classList.remove("is-asked");
      for (const each of switches) {
        each.textContent = hidden ? "Show all answers" : "Hide answers until I ask";
        each.setAttribute("aria-pressed", String(hidden));
      }
      remember(hidden);
    }
    set(remembered());
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
