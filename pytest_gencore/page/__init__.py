"""One file for the browser: what archives tell, without network, and without any script but ours."""
