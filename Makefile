.PHONY: lint test demo docs

lint:
	scripts/lint

test:
	scripts/test all

demo:
	scripts/demo

docs:
	scripts/docs
	scripts/check_pages
