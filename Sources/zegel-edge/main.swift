// The edge: takes mail in over SMTP, seals it and commits it to the ledger.

import Edge
import Observability

await NodeMain.run("zegel-edge", validate: EdgeNode.validate) { context in
    try await EdgeNode(context).services
}
