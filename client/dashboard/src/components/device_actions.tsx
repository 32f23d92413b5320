/** What can be done with boards: by administrators with any, by users with those they hold. */

import { Actions } from "../farm/actions";
import type { Board } from "../farm/state";
import { useLive, useMay, useSession } from "./context";
import { ask } from "./dialog";

export function DeviceActions({ board }: { board: Board }) {
  const session = useSession();
  const live = useLive();
  const admin = useMay("admin");
  const holder = useMay("user", board.report.user ?? "");
  const actions = new Actions(session.requests);
  const { serial, reservation, user, state } = board.report;
  const held = user === null ? "" : ` ${user} holds it, and what it measures now fails.`;
  if (!admin && !(holder && reservation !== null)) return null;
  const quarantined = state === "quarantined";
  const order = (
    operation: "reboot" | "reflash" | "quarantine" | "unquarantine",
    title: string,
    text: string,
    confirm: string,
  ): void =>
    ask({
      title,
      text: text + (quarantined ? "" : held),
      confirm,
      dangerous: operation !== "unquarantine",
      reason: true,
      run: ({ reason }) => actions.onDevices(operation, [serial], reason),
    });
  return (
    <div class="actions">
      {!admin && holder && reservation !== null && (
        <button
          type="button"
          disabled={!live}
          onClick={() =>
            ask({
              title: `Reboot ${serial}?`,
              text: "You keep it. What it measures now fails.",
              confirm: "Reboot",
              dangerous: true,
              run: () => actions.rebootHeld(reservation, [serial]),
            })
          }
        >
          Reboot
        </button>
      )}
      {admin && (
        <>
          <button
            type="button"
            disabled={!live}
            onClick={() => order("reboot", `Reboot ${serial}?`, "It is restarted.", "Reboot")}
          >
            Reboot
          </button>
          <button
            type="button"
            disabled={!live}
            onClick={() =>
              order("reflash", `Reflash ${serial}?`, "Its firmware is written anew.", "Reflash")
            }
          >
            Reflash
          </button>
          {quarantined ? (
            <button
              type="button"
              disabled={!live}
              onClick={() =>
                order(
                  "unquarantine",
                  `Let ${serial} be reserved again?`,
                  "It is tested first.",
                  "Unquarantine",
                )
              }
            >
              Unquarantine
            </button>
          ) : (
            <button
              type="button"
              disabled={!live}
              onClick={() =>
                order(
                  "quarantine",
                  `Quarantine ${serial}?`,
                  "Nobody gets it until you undo this.",
                  "Quarantine",
                )
              }
            >
              Quarantine
            </button>
          )}
        </>
      )}
    </div>
  );
}
