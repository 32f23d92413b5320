import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { matches } from "../farm/feed";
import * as t from "./topics";

const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/);
const families = Object.values(t).filter(
  (each): each is t.Family => typeof each === "object" && "template" in each,
);
const levels = ({ template }: t.Family): string[] =>
  [...template.matchAll(/\{(\w+)\}/g)].map(([, level = ""]) => level);

describe.each(families)("given topics of $template", (family) => {
  test("when one is spelt and read, then its ids come back", () => {
    fc.assert(
      fc.property(fc.array(id, { minLength: 8, maxLength: 8 }), (values) => {
        const ids = Object.fromEntries(levels(family).map((level, n) => [level, values[n] ?? "x"]));
        const topic = t.spell(family, ids);
        expect({ ...t.parse(family, topic) }).toEqual(ids);
        expect(matches(t.spell(family), topic)).toBe(true);
      }),
    );
  });

  test("when the filter of all is spelt, then it has no #", () => {
    expect(t.spell(family)).not.toContain("#");
  });
});

test("given an id that can't stand in a topic, when it is spelt, then that is refused", () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      fc.pre(!t.isId(text));
      expect(() => t.spell(t.DEVICE, { worker: "local", serial: text })).toThrow(RangeError);
    }),
  );
});
