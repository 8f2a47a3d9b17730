// Shows one section at a time: arrow keys, space, Page Up and Down, Home, End, or the two buttons.
const slides = [...document.querySelectorAll(".slides section")].filter(
  (section) => !section.querySelector("section"),
);
const nav = document.createElement("nav");
nav.className = "turn";
nav.innerHTML =
  '<button aria-label="previous slide">←</button><span></span><button aria-label="next slide">→</button>';
document.body.append(nav);
let current = 0;

function show(number) {
  current = Math.max(0, Math.min(slides.length - 1, number));
  for (const section of document.querySelectorAll(".slides section")) {
    section.classList.toggle("open", section.contains(slides[current]));
  }
  nav.querySelector("span").textContent = `${current + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${current + 1}`);
  slides[current].scrollTop = 0;
}

const steps = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1 };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, button")) return;
  if (event.key in steps) show(current + steps[event.key]);
  else if (event.key === "Home") show(0);
  else if (event.key === "End") show(slides.length - 1);
  else return;
  event.preventDefault();
});
const [back, on] = nav.querySelectorAll("button");
back.addEventListener("click", () => show(current - 1));
on.addEventListener("click", () => show(current + 1));
addEventListener("hashchange", () => show(Number(location.hash.slice(1)) - 1 || 0));
show(Number(location.hash.slice(1)) - 1 || 0);
