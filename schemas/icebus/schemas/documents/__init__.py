"""Documents that are generated from the topic contract: AsyncAPI, and the page of topics."""
