// Serves what became of each message, over HTTPS, from the members of one region.

import API
import Observability

await NodeMain.run("zegel-api", validate: APINode.validate, services: APINode.services)
