SwaggerUIBundle({
  url: "../openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Otherwise it would have the document's validity shown by a service of its makers.
  validatorUrl: null,
});
