/** What every view has at hand: the session, what it listens to, and whether anything can be done. */

import { createContext } from "preact";
import { useContext, useEffect } from "preact/hooks";
import type { Family, Ids } from "../bus/topics";
import { healthOf } from "../health";
import type { Session } from "../session";

export const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("a view outside of a session");
  return session;
}

export type Need = readonly [family: Family, ids?: Ids];

/** Subscribe to these families for as long as the component is there. */
export function useNeeds(needs: readonly Need[], key = ""): void {
  const session = useSession();
  useEffect(() => {
    const releases = needs.map(([family, ids]) => session.need(family, ids));
    return () => {
      for (const release of releases) release();
    };
  }, [session, key]);
}

/** Whether its user may do what takes a role, and it can be done now. */
export function useMay(role: "user" | "admin", owner?: string): boolean {
  const session = useSession();
  const mine = session.role.value;
  if (mine === "admin") return role === "admin" || owner === undefined || owner === session.user;
  return role === "user" && mine === "user" && (owner === undefined || owner === session.user);
}

export function useLive(): boolean {
  return healthOf(useSession()).live;
}
