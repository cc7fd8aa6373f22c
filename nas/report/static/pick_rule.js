// Which design `nas pick` takes under limits, and the command that takes a design. The rule is that of
// nas/deploy/choose.py; the numbers are exact, so that the two never differ.

const PICK = DATA.pick;
const LIMITS = [
  { name: "maxLatencyMs", option: "--max-latency-ms", column: 2, atMost: true },
  { name: "minAccuracy", option: "--min-accuracy", column: 1, atMost: false },
  { name: "maxSizeBytes", option: "--max-size-bytes", column: 3, atMost: true },
];

// As Constraint.violation has it: in the same order, so that rounding falls the same way.
const breaks = (value, limit, atMost) => (atMost ? value / limit - 1 : -(value / limit - 1)) > 0;

// The design that `nas pick` takes: {trial, rule, count, leader, runnerUp}; trial is null where nothing meets the limits.
// limits: maxLatencyMs, minAccuracy, maxSizeBytes, each a number or absent; target: of `--target`, or absent.
function nasPick({ target = null, ...limits } = {}) {
  const question = PICK.questions.find((each) => (target === null ? each.target === null : placeOf(each) === target));
  const asked = LIMITS.filter(({ name }) => limits[name] !== undefined && limits[name] !== null);
  const able = [...question.candidates.keys()].filter((at) =>
    asked.every(({ name, column, atMost }) => !breaks(question.candidates[at][column], limits[name], atMost)),
  );
  const rule = ruleOf(question, asked);
  const taken = take(question, rule, able);
  const rest = able.filter((at) => at !== taken?.chosen);
  // The knee of some of them is not worked out here, and so there is no runner-up to it.
  const next = rule === "knee" ? null : take(question, rule, rest);
  const number = (at) => (at === undefined ? null : question.candidates[at][0]);
  return {
    rule,
    count: able.length,
    trial: number(taken?.chosen),
    leader: number(taken?.leader),
    runnerUp: number(next?.chosen),
  };
}

function ruleOf(question, asked) {
  if (!asked.length) return "knee";
  if (asked.some(({ name }) => name === "minAccuracy")) return question.latency ? "fastest" : "cheapest";
  return "most accurate";
}

// What leads by the rule, and what is taken: of those that cannot be told apart from it the smallest file, of equal files
// the leader, then the lower number.
function take(question, rule, able) {
  if (!able.length) return null;
  const { candidates, tied, knee } = question;
  const leader =
    rule === "knee"
      ? candidates.findIndex(([number]) => number === knee)
      : [...able].sort((a, b) => ranking(rule)(candidates[a], candidates[b]))[0];
  const pool = [leader, ...tied[leader].filter((at) => able.includes(at))];
  const key = (at) => [candidates[at][3], at === leader ? 0 : 1, candidates[at][0]];
  return { leader, chosen: pool.sort((a, b) => inOrder(key(a), key(b)))[0] };
}

const placeOf = (question) => question.target ?? (question.latency ? question.cost.slice("latency_ms@".length) : null);

// By the rule's figure, then the smaller file, then the other figure, then the lower number.
function ranking(rule) {
  const key = ([number, quality, cost, size]) =>
    rule === "most accurate" ? [-quality, size, cost, number] : [cost, size, -quality, number];
  return (a, b) => inOrder(key(a), key(b));
}

function inOrder(left, right) {
  const at = left.findIndex((v, index) => v !== right[index]);
  return at < 0 ? 0 : left[at] - right[at];
}

// The value with as few digits as keep every other one on its side.
function roundedLimit(number, others, up) {
  if (number <= 0) return null;
  const exponent = Math.floor(Math.log10(number));
  for (let digits = 2; digits < 16; digits++) {
    const step = 10 ** (exponent + 1 - digits);
    const limit = Number(((up ? Math.ceil(number / step) : Math.floor(number / step)) * step).toPrecision(12));
    if (up && limit >= number && !others.some((other) => number < other && other <= limit)) return limit;
    if (!up && limit > 0 && limit <= number && !others.some((other) => limit <= other && other < number)) return limit;
  }
  return number;
}

function pickCommand(question, limits) {
  const target = question.target ? [`--target ${question.target}`] : [];
  const asked = LIMITS.filter(({ name }) => limits[name] !== undefined).map(
    ({ name, option }) => `${option} ${limits[name]}`,
  );
  return [PICK.command, ...target, ...asked, "--output deploy"].join(" ");
}

// The command that picks this very design, with as few limits as it takes; null where no limits single it out.
function commandFor(trial) {
  const question = PICK?.questions[0];
  const own = question?.candidates.find(([number]) => number === trial);
  if (!own) return null;
  const names = LIMITS.filter(({ name }) => name !== "maxLatencyMs" || question.latency);
  const tight = Object.fromEntries(
    names.map(({ name, column, atMost }) => {
      const values = question.candidates.map((one) => one[column]);
      return [name, name === "maxSizeBytes" ? own[column] : roundedLimit(own[column], values, atMost)];
    }),
  );
  const sets = [...Array(2 ** names.length).keys()].map((bits) =>
    names.filter((_, at) => bits & (1 << at)).map(({ name }) => name),
  );
  sets.sort((a, b) => a.length - b.length || b.includes("maxLatencyMs") - a.includes("maxLatencyMs"));
  for (const set of sets) {
    const limits = Object.fromEntries(set.map((name) => [name, tight[name]]));
    if (Object.values(limits).every((limit) => limit !== null) && nasPick(limits).trial === trial)
      return pickCommand(question, limits);
  }
  return null;
}

// For a console, and for tests: what the sliders work out.
window.nasPick = (limits) => nasPick(limits);
window.nasCommandFor = (trial) => commandFor(trial);
