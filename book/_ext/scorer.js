/* What the search lists first: for a word the chapters that have it, for a name of the library its page. */

const asked = new URLSearchParams(window.location.search).get("q") ?? "";
const CHAPTER = /[_.(]/.test(asked) ? 0 : 25; // more than a module of the same name gets

var Scorer = {
  score: ([page, , , , score]) => score + (/^notebooks\/0[1-9]/.test(page) ? CHAPTER : 0),
  // The rest as Sphinx has it.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
