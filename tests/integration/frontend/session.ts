// The session of a Next application, as examples/frontend/next/route.ts imports it: the user of the environment, or none.
export async function currentUser(): Promise<{ id: string; orgId?: number } | null> {
  const id = process.env["SESSION_USER"];
  return id ? { id, orgId: 7 } : null;
}
